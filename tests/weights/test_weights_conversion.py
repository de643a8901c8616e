"""An output is made whole or not at all, and slices are moved a few at a time."""

import fcntl
import functools
import math
import shutil
import threading
import tracemalloc
import weakref

import numpy as np
import pytest

from codegen_pax.runs import rechunking
from codegen_pax.runs.checkpoint_arrays import NewCheckpoint, Variables
from codegen_pax.weights import (
    conversion,
    exporting,
    hugging_face,
    importing,
    jaxformer_checkpoint,
    layouts,
    slices,
    tensor_files,
)
from codegen_pax.weights.conversion import StagingFolder
from codegen_pax.weights.tensors import FileReader
from tests.weights.conversions import import_hugging_face, import_plan, state, stored
from tests.weights.networks import Network, save_jaxformer

NETWORK = Network()
DIMS = NETWORK.dims()
LARGE = Network(2, 128, 8, 4, 64, 1 << 15)


def test_a_folder_gets_its_name_when_it_is_committed(tmp_path):
    output = tmp_path / "deep" / "output"
    with StagingFolder(output) as staging:
        (staging.path / "sub").mkdir()
        (staging.path / "sub" / "file").write_text("content")
        (staging.path / "sub" / "0.0.__lock").touch()
        assert not output.exists()
        staging.commit()
    names = [path.relative_to(output).as_posix() for path in output.rglob("*")]
    assert names == ["sub", "sub/file"]
    assert [path.name for path in output.parent.iterdir()] == ["output"]


def test_an_empty_folder_may_exist(tmp_path):
    with StagingFolder(tmp_path) as staging:
        (staging.path / "file").touch()
        staging.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("make", ["file", "folder"])
def test_an_existing_output_is_kept(make, tmp_path):
    output = tmp_path / "output"
    if make == "file":
        output.write_text("mine")
    else:
        output.mkdir()
        (output / "mine").touch()
    with pytest.raises(FileExistsError, match="output already exists; expected a new folder"):
        StagingFolder(output)
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_what_is_not_committed_is_removed(error, tmp_path):
    def write():
        with StagingFolder(tmp_path / "output") as staging:
            (staging.path / "file").touch()
            if error:
                raise error

    if error:
        with pytest.raises(error):
            write()
    else:
        write()
    assert not list(tmp_path.iterdir())


def test_what_a_killed_conversion_left_is_removed(tmp_path):
    with StagingFolder(tmp_path / "output") as staging:
        (staging.path / "sub").mkdir()
        (staging.path / "sub" / "file").touch()
        shutil.copytree(staging.path, tmp_path / "copy")
    (tmp_path / "copy").rename(staging.path)
    with StagingFolder(tmp_path / "output") as staging:
        assert [path.name for path in staging.path.iterdir()] == [conversion.LOCK_FILE]
        staging.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


@pytest.mark.parametrize("name", ["precious", "journal"])
def test_a_folder_that_no_conversion_left_is_kept(name, tmp_path):
    folder = tmp_path / "output.unfinished"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(FileExistsError, match=r"not left by a conversion .*: remove"):
        StagingFolder(tmp_path / "output")
    assert [path.name for path in folder.iterdir()] == [name]


def test_two_at_once_are_refused(tmp_path):
    output = tmp_path / "output"
    with StagingFolder(output) as staging:
        (staging.path / "file").touch()
        with pytest.raises(BlockingIOError, match="another process is writing"):
            StagingFolder(output)
        staging.commit()
    assert [path.name for path in output.iterdir()] == ["file"]


@pytest.mark.parametrize("ended", ["removed", "committed"])
def test_a_folder_that_ended_while_its_lock_was_opened_is_not_used(ended, tmp_path, monkeypatch):
    output = tmp_path / "output"
    first = StagingFolder(output)
    flock = fcntl.flock

    def end_first(file, operation):
        monkeypatch.setattr(fcntl, "flock", flock)
        if ended == "committed":
            (first.path / "file").touch()
            first.commit()
        first.close()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", end_first)
    if ended == "committed":
        with pytest.raises(FileExistsError, match="already exists"):
            StagingFolder(output)
        assert [path.name for path in tmp_path.iterdir()] == ["output"]
        return
    with (
        StagingFolder(output),
        pytest.raises(BlockingIOError, match="another process is writing"),
    ):
        StagingFolder(output)


def test_room_is_checked(tmp_path, monkeypatch):
    """What a killed conversion left takes its blocks on the disk, and will be removed."""
    usage = shutil.disk_usage(tmp_path)._replace(free=50_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    output = tmp_path / "not" / "there"
    conversion.check_room(output, 50_000)
    with pytest.raises(OSError, match=r"no room for .*there: it needs 0\.00 GB, and 0\.00 GB are"):
        conversion.check_room(output, 90_000)
    leftover = tmp_path / "not" / "there.unfinished"
    leftover.mkdir(parents=True)
    (leftover / "file").write_bytes(b"x" * 81_920)
    with open(leftover / "sparse", "wb") as file:
        file.truncate(10**9)
    conversion.check_room(output, 90_000)


@pytest.fixture
def small_slices(monkeypatch):
    """So that small networks are cut, and in the middle of a group's heads."""
    monkeypatch.setattr(slices, "SLICE_BYTES", 600)
    monkeypatch.setattr(rechunking, "PIECE_BYTES", 600)


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("direction", ["import", "export"])
def test_an_interrupted_conversion_leaves_nothing_and_begins_afresh(
    direction, tmp_path, monkeypatch
):
    NETWORK.hugging_face().save_pretrained(tmp_path / "source")
    import_hugging_face(tmp_path / "source", tmp_path / "job", DIMS)
    checkpoint = tmp_path / "job" / importing.CHECKPOINT
    output = tmp_path / "output"

    def convert() -> list[int]:
        moved: list[int] = []
        with StagingFolder(output) as staging:
            if direction == "import":
                plan = import_plan(tmp_path / "source", DIMS)
                importing.run(plan, state(DIMS), staging.path, moved.append)
            else:
                layout = layouts.hugging_face(DIMS)
                plan = exporting.make_plan(Variables(checkpoint), DIMS, layout)
                exporting.run(plan, staging.path, moved.append)
            staging.commit()
        assert sum(moved) == plan.moved_bytes
        return moved

    owner = NewCheckpoint if direction == "import" else tensor_files.SafetensorsWriter
    write, calls = owner.write, []

    def interrupt(self, *arguments):
        write(self, *arguments)
        calls.append(arguments)
        if len(calls) == 40:
            raise KeyboardInterrupt

    total = len(slices.make_slices(layouts.hugging_face(DIMS)))
    with monkeypatch.context() as patch:
        patch.setattr(owner, "write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            convert()
    assert 40 <= len(calls) < 40 + conversion.THREADS < total
    assert {path.name for path in tmp_path.iterdir()} == {"source", "job"}
    assert len(convert()) == total
    if direction == "import":
        assert stored(output / importing.CHECKPOINT) == stored(checkpoint)
    else:
        name = tensor_files.SAFETENSORS
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
    "import hf": (importing.run, layouts.hugging_face, None),
    "import jaxformer": (importing.run, functools.partial(layouts.jaxformer, mp_num=4), None),
    "export hf": (exporting.run, layouts.hugging_face, None),
    "export hf as float16": (exporting.run, layouts.hugging_face, np.dtype(np.float16)),
    "export gptj": (exporting.run, layouts.gptj, None),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A network whose largest tensors are 16 MiB, in a checkpoint and in the other layouts."""
    folder = tmp_path_factory.mktemp("large")
    LARGE.hugging_face().save_pretrained(folder / "hf")
    random = np.random.default_rng(0)
    arrays = {
        weight.jaxformer: random.standard_normal(
            weight.jaxformer_shape(LARGE.dims(embedding_bias=True)), np.float32
        )
        for weight in layouts.WEIGHTS
    }
    save_jaxformer(arrays, folder / "jaxformer")
    import_hugging_face(folder / "hf", folder / "job", LARGE.dims())
    return folder


@pytest.mark.parametrize("name", CONVERSIONS)
def test_live_bytes_do_not_grow_with_the_network(name, large, tmp_path, monkeypatch):
    """Each thread has a slice, and up to three copies of it; a tensor is 64 slices.

    What numpy allocates is traced; what tensorstore reads is not, and is counted.
    """
    monkeypatch.setattr(slices, "SLICE_BYTES", 1 << 18)
    monkeypatch.setattr(rechunking, "PIECE_BYTES", 1 << 18)
    run, make_layout, dtype = CONVERSIONS[name]
    dims = LARGE.dims()
    layout = make_layout(dims)
    if run is importing.run:
        source = large / name.split()[1]
        tensors = (
            hugging_face.find_weights(source)
            if "hf" in name
            else jaxformer_checkpoint.find_weights(source)[0]
        )
        plan = importing.make_plan(source, FileReader(tensors), layout)
        assert plan.folds_bias == ("jaxformer" in name)
        arguments = (plan, state(dims))
    else:
        variables = Variables(large / "job" / importing.CHECKPOINT)
        arguments = (exporting.make_plan(variables, dims, layout, dtype),)
    largest = max(math.prod(shape) * 4 for shape in layout.shapes.values())
    assert largest == 64 * slices.SLICE_BYTES
    counter = Counter()
    monkeypatch.setattr(Variables, "read", counter.counting(Variables.read))
    with StagingFolder(tmp_path / "output") as staging:
        tracemalloc.start()
        try:
            run(*arguments, staging.path, lambda count: None)
            peak = counter.peak + tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert slices.SLICE_BYTES <= peak <= 4 * conversion.THREADS * slices.SLICE_BYTES
