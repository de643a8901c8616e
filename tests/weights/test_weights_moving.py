"""Cuts are moved a few at a time, and what was cut short is gone on with."""

import threading
import weakref

import numpy as np
import pytest
from conversions import export, import_hugging_face, import_plan, state, stored
from networks import Network

from codegen_pax.weights import cuts, exporting, importing, layout, moving, safetensors_files
from codegen_pax.weights.checkpoint import Variables
from codegen_pax.weights.tensors import Files
from codegen_pax.weights.workspace import Workspace

NETWORK = Network()
DIMS = NETWORK.dims()


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


@pytest.mark.parametrize("what", ["import", "export"])
def test_live_bytes_do_not_grow_with_the_network(what, tmp_path, monkeypatch):
    """Each thread has the rows of a cut, and the same turned; a tensor is 128 times as large."""
    monkeypatch.setattr(cuts, "CUT_BYTES", 1 << 18)
    network = Network(6, 128, 8, 4, 64, 1 << 16)
    dims = network.dims()
    network.hugging_face().save_pretrained(tmp_path / "source")
    if what == "export":
        import_hugging_face(tmp_path / "source", tmp_path / "job", dims)
    counter = Counter()
    for owner, name in ((Files, "rows"), (Variables, "read"), (cuts, "transposed")):
        monkeypatch.setattr(owner, name, counter.counting(getattr(owner, name)))
    if what == "import":
        import_hugging_face(tmp_path / "source", tmp_path / "job", dims)
    else:
        export(tmp_path / "job" / importing.CHECKPOINT, tmp_path / "result", dims)
    largest = max(int(np.prod(shape)) * 4 for shape in cuts.hugging_face(dims).shapes.values())
    assert largest == 128 * cuts.CUT_BYTES
    assert cuts.CUT_BYTES <= counter.peak <= 2 * moving.THREADS * cuts.CUT_BYTES
    assert counter.live <= 2 * cuts.CUT_BYTES  # all but what the last frame still names
