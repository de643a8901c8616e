"""`codegen-pax import` when it is killed, and when it is called twice at once."""

import os
import signal
import time

import jax
import numpy as np

from codegen_pax.cli.core.main import main
from codegen_pax.runs.checkpoint_arrays import read_variables
from codegen_pax.weights import slices
from tests import pax_process
from tests.cli.wide_networks import CHECKPOINT, refused
from tests.weights import in_memory
from tests.weights.networks import Network

# In the child process: after 40 slices, says so and waits for ever.
STUCK = """
import itertools, pathlib, sys, threading
from codegen_pax.cli.core.main import main
from codegen_pax.weights import slices
slices.SLICE_BYTES = 1 << 17
to_pax, calls = slices.to_pax, itertools.count()
def wait(*arguments):
    if next(calls) >= 40:
        pathlib.Path("stuck").touch()
        threading.Event().wait()
    return to_pax(*arguments)
slices.to_pax = wait
sys.exit(main())
"""


def test_a_conversion_that_is_killed_leaves_no_output_and_begins_afresh(
    tmp_path, capsys, monkeypatch
):
    """In a process of its own, killed in the middle; twice at once is refused."""
    shape = Network(2, 128, 4, 16, 256, 51_200)
    network = shape.hugging_face()
    network.save_pretrained(tmp_path / "source")
    arguments = ["import", "hf", "source", "--experiment", "CodeGenMicroMono", "--output", "job"]
    (tmp_path / "stuck_command.py").write_text(STUCK)
    process = pax_process.Process(
        "stuck_command", arguments, tmp_path, dict(os.environ), tmp_path / "child.txt"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(slices, "SLICE_BYTES", 1 << 17)
    try:
        while not (tmp_path / "stuck").exists():
            assert process.poll() is None, (tmp_path / "child.txt").read_text()
            time.sleep(0.05)
        assert "another process is writing" in refused(capsys, *arguments)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "job").exists()
    assert any((tmp_path / "job.unfinished" / CHECKPOINT / "state").glob("*/[0-9]*"))
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert "importing:" in printed and "job: 13,553,792 parameters" in printed
    assert not (tmp_path / "job.unfinished").exists()
    actual = read_variables(tmp_path / "job" / CHECKPOINT)["params"]["lm"]
    state = {name: array.numpy() for name, array in network.state_dict().items()}
    expected = in_memory.from_hugging_face(state, shape.dims(True))
    jax.tree.map(np.testing.assert_array_equal, actual, expected)
