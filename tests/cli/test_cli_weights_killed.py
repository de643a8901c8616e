"""`codegen-pax import` when it is killed, and when it is called twice at once."""

import os
import subprocess
import sys
import time

import numpy as np

from codegen_pax.runs.checkpoint_arrays import read_variables
from codegen_pax.weights import layout
from tests.cli.wide_networks import CHECKPOINT
from tests.weights import whole
from tests.weights.networks import Network


def test_a_conversion_that_is_killed_leaves_nothing_whole_and_is_gone_on_with(tmp_path):
    """In a process of its own, killed in the middle; twice at once is refused."""
    network = Network(2, 128, 4, 16, 256, 51_200).hugging_face()
    network.save_pretrained(tmp_path / "source")
    command = [sys.executable, "-m", "codegen_pax.cli.core.main", "import", "hf", "source"]
    command += ["--experiment", "CodeGenNanoMono", "--output", "job"]
    stuck = tmp_path / "sitecustomize.py"
    stuck.write_text(
        "import itertools, threading\n"
        "from codegen_pax.weights import cuts\n"
        "cuts.CUT_BYTES = 1 << 17\n"
        "turn, turned = cuts.to_pax, itertools.count()\n"
        "def to_pax(*arguments):\n"
        "    if next(turned) >= 40:\n"
        "        threading.Event().wait()\n"
        "    return turn(*arguments)\n"
        "cuts.to_pax = to_pax\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL)
    journal = tmp_path / "job.unfinished" / "journal"
    try:
        while not (journal.exists() and journal.read_text().count("\n") == 1 + 40):
            assert process.poll() is None
            time.sleep(0.05)
        second = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
    finally:
        process.kill()
        process.wait()
    assert second.returncode == 1 and "another process is writing" in second.stderr
    assert not (tmp_path / "job").exists()
    stuck.write_text("from codegen_pax.weights import cuts\ncuts.CUT_BYTES = 1 << 17\n")
    state = tmp_path / "job.unfinished" / CHECKPOINT / "state"
    done = {path.relative_to(state): path.stat().st_mtime_ns for path in state.glob("*/[0-9]*")}
    written = journal.read_text().count("\n") - 1
    assert written == 40 <= len(done)
    printed = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert "importing:" in printed and "job: 13,553,792 parameters" in printed
    assert not (tmp_path / "job.unfinished").exists()
    state = tmp_path / "job" / CHECKPOINT / "state"
    kept = [name for name, when in done.items() if (state / name).stat().st_mtime_ns == when]
    assert len(kept) >= written
    found = read_variables(tmp_path / "job" / CHECKPOINT)["params"]["lm"]
    state = {name: array.numpy() for name, array in network.state_dict().items()}
    wanted = whole.from_hugging_face(state, Network(2, 128, 4, 16, 256, 51_200).dims(True))
    for weight in layout.WEIGHTS:
        a, b = found, wanted
        for key in weight.path:
            a, b = a[key], b[key]
        np.testing.assert_array_equal(a, b)
