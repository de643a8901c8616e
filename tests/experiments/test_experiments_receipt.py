"""What a job says of itself."""

import pytest
from etils import epath

from experiments import receipt
from experiments.declaration import find_declaration


def test_a_job_that_was_killed_before_its_first_checkpoint_begins_again(tmp_path):
    job, declaration = epath.Path(tmp_path / "job"), find_declaration("CodeGenNanoMono")
    receipt.write(job, declaration, "codegen.CodeGenNanoMono", None)
    start = {"experiment": "CodeGenNanoMulti", "job": "somewhere", "step": 3}
    receipt.write(job, declaration, "codegen.CodeGenNanoMono", start)
    assert receipt.read(job)["start"] == start
    assert [path.name for path in job.iterdir()] == [receipt.RECEIPT]


def test_another_experiment_is_refused(tmp_path):
    job = epath.Path(tmp_path)
    receipt.check_resumed(job, find_declaration("CodeGenNanoNL"))  # nothing is known of it
    receipt.write(job, find_declaration("CodeGenNanoMono"), "codegen.CodeGenNanoMono", None)
    receipt.check_resumed(job, find_declaration("CodeGenNanoMono"))
    with pytest.raises(ValueError, match=r"experiment CodeGenNanoMono; wanted CodeGenNanoNL"):
        receipt.check_resumed(job, find_declaration("CodeGenNanoNL"))
