"""Cuts are moved a few at a time, and what was cut short is gone on with."""

import functools
import math
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

from codegen_pax.runs.checkpoint_arrays import Variables
from codegen_pax.weights import (
    cuts,
    exporting,
    hugging_face_files,
    importing,
    jaxformer_files,
    layout,
    moving,
    safetensors_files,
)
from codegen_pax.weights.tensors import Files
from codegen_pax.weights.workspace import Workspace
from tests.weights.conversions import import_hugging_face, import_plan, state, stored
from tests.weights.networks import Network, save_jaxformer

NETWORK = Network()
DIMS = NETWORK.dims()
LARGE = Network(2, 128, 8, 4, 64, 1 << 17)


@pytest.fixture(autouse=True)
def small_cuts(monkeypatch):
    """So that small networks are cut, and in the middle of a group's heads."""
    monkeypatch.setattr(cuts, "CUT_BYTES", 600)


def interrupting(monkeypatch, after):
    """Lets a conversion be interrupted after some cuts."""
    mark = Workspace.mark
    left = [after]

    def marked(self, piece):
        mark(self, piece)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    monkeypatch.setattr(Workspace, "mark", marked)


@pytest.mark.parametrize("after", [1, 40, 100])
@pytest.mark.parametrize("what", ["import", "export"])
def test_what_was_cut_short_is_gone_on_with(what, after, tmp_path, monkeypatch):
    NETWORK.hugging_face().save_pretrained(tmp_path / "source")
    import_hugging_face(tmp_path / "source", tmp_path / "whole", DIMS)
    checkpoint = tmp_path / "whole" / importing.CHECKPOINT
    output = tmp_path / "output"

    def convert():
        counted = []
        with Workspace(output, {"of": what}) as space:
            if what == "import":
                plan = import_plan(tmp_path / "source", DIMS)
                importing.run(plan, state(DIMS), space, counted.append)
            else:
                plan = exporting.plan(Variables(checkpoint), DIMS, cuts.hugging_face)
                exporting.run(plan, space, counted.append)
            space.finish()
        return counted

    with monkeypatch.context() as patch:
        interrupting(patch, after)
        with pytest.raises(KeyboardInterrupt):
            convert()
    assert not output.exists()
    journal = (tmp_path / "output.unfinished" / "journal").read_text().splitlines()
    done = len(journal) - 1
    assert done >= after
    read = []
    patched = Files.rows if what == "import" else Variables.read
    owner, method = (Files, "rows") if what == "import" else (Variables, "read")
    monkeypatch.setattr(owner, method, lambda self, *a: read.append(a) or patched(self, *a))
    counted = convert()
    total = len(cuts.hugging_face(DIMS).cuts)
    assert len(read) == total - done
    assert counted[0] > 0 and sum(counted) == 4 * sum(
        int(np.prod(weight.pax_shape(DIMS))) for weight in layout.weights(DIMS)
    )
    if what == "import":
        assert stored(output / importing.CHECKPOINT) == stored(checkpoint)
    else:
        name = safetensors_files.WHOLE
        assert (output / name).read_bytes() == (tmp_path / "source" / name).read_bytes()


class Counter:
    """Counts the bytes of arrays that some functions return, for as long as those live."""

    def __init__(self):
        self.live = self.peak = 0
        self.lock = threading.Lock()

    def _add(self, count: int) -> None:
        with self.lock:
            self.live += count
            self.peak = max(self.peak, self.live)

    def counting(self, function):
        def counted(*args, **kwargs):
            made = function(*args, **kwargs)
            self._add(made.nbytes)
            weakref.finalize(made, self._add, -made.nbytes)
            return made

        return counted


CONVERSIONS = {
    "import hf": (importing.run, cuts.hugging_face, None),
    "import jaxformer": (importing.run, functools.partial(cuts.jaxformer, mp_num=4), None),
    "export hf": (exporting.run, cuts.hugging_face, None),
    "export hf as float16": (exporting.run, cuts.hugging_face, np.dtype(np.float16)),
    "export gptj": (exporting.run, cuts.gptj, None),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A network whose largest tensors are 64 MiB, in a checkpoint and in the other layouts."""
    folder = tmp_path_factory.mktemp("large")
    LARGE.hugging_face().save_pretrained(folder / "hf")
    random = np.random.default_rng(0)
    arrays = {
        weight.jaxformer: random.standard_normal(
            weight.jaxformer_shape(LARGE.dims(embedding_bias=True)), np.float32
        )
        for weight in layout.WEIGHTS
    }
    save_jaxformer(arrays, folder / "jaxformer")
    import_hugging_face(folder / "hf", folder / "job", LARGE.dims())
    return folder


@pytest.mark.parametrize("what", CONVERSIONS)
def test_live_bytes_do_not_grow_with_the_network(what, large, tmp_path, monkeypatch):
    """Each thread has a cut, and up to three copies of it, turned or cast; a tensor is 64 cuts.

    What numpy allocates is traced; what tensorstore reads is not, and is counted.
    """
    monkeypatch.setattr(cuts, "CUT_BYTES", 1 << 20)
    run, make, kind = CONVERSIONS[what]
    dims = LARGE.dims()
    if run is importing.run:
        source = large / what.split()[1]
        tensors = (
            hugging_face_files.find(source) if "hf" in what else jaxformer_files.find(source)[0]
        )
        plan = importing.plan(source, Files(tensors), dims, functools.partial(make, dims))
        assert plan.fold == ("jaxformer" in what)
        arguments = (plan, state(dims))
    else:
        variables = Variables(large / "job" / importing.CHECKPOINT)
        arguments = (exporting.plan(variables, dims, make, kind),)
    largest = max(math.prod(shape) * 4 for shape in make(dims).shapes.values())
    assert largest == 64 * cuts.CUT_BYTES
    counter = Counter()
    monkeypatch.setattr(Variables, "read", counter.counting(Variables.read))
    with Workspace(tmp_path / "output", {}) as space:
        tracemalloc.start()
        try:
            run(*arguments, space, lambda count: None)
            peak = counter.peak + tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert cuts.CUT_BYTES <= peak <= 4 * moving.THREADS * cuts.CUT_BYTES
