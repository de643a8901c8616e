"""`codegen-pax verify`: what is wrong with a job, which step is good, and how to go on."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from codegen_pax.cli.core.main import main
from codegen_pax.runs import checkpoints, checksums
from tests.runs import small_jobs

A = "state/mdl_vars.params.lm.a"
M = f"state/{small_jobs.MOMENT}"


@pytest.fixture
def job(tmp_path):
    """Three checkpoints with checksums, and a space in the name."""
    job = tmp_path / "my job"
    for checkpoint in small_jobs.write_job(job, [2, 4, 6]):
        checksums.write(checkpoint)
    return job


def checkpoint(job, step):
    return Path(checkpoints.path(job, step))


@pytest.fixture
def verify(job, capsys):
    """Runs the command; returns its status and its JSON."""

    def run():
        status = main(["verify", str(job), "--json"])
        return status, json.loads(capsys.readouterr().out)

    return run


def test_a_good_job(job, capsys, verify):
    assert main(["verify", str(job)]) == 0
    message = capsys.readouterr().out
    assert "newest good step: 6" in message and "step 2: good; checksums: when saved" in message
    status, actual = verify()
    assert status == 0 and actual["good"] and actual["newest_good_step"] == 6
    assert [one["step"] for one in actual["checkpoints"]] == [6, 4, 2]


def not_a_number(folder):
    values = np.full((4, 6), 1, np.float32)
    values[3, 5], values[0, 0] = np.nan, -np.inf
    shutil.rmtree(folder / A)
    small_jobs.write_array(folder / A, values)
    checksums.write(folder)  # as it was saved


def remove(name):
    return lambda folder: (folder / name).unlink()


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def half_copied(folder):
    for path in sorted(folder.rglob("*"))[::2]:
        if path.is_file() and not path.name.startswith("checksums"):
            path.unlink()


def without_an_array(folder):
    """An old one, whose metadata alone tells."""
    checksums.file_path(folder).unlink()
    shutil.rmtree(folder / A)


def cut_without_checksums(folder):
    checksums.file_path(folder).unlink()
    path = folder / M / "0.0"
    path.write_bytes(path.read_bytes()[:-4])


DAMAGES = {
    "missing chunk": (remove(f"{A}/0.1"), f"{A}/0.1 is missing"),
    "cut": (write(f"{A}/0.1", b"x"), f"{A}/0.1 has 1 bytes"),
    "other bytes": (
        lambda folder: write(f"{A}/1.1", b"x" * (folder / A / "1.1").stat().st_size)(folder),
        f"{A}/1.1 has other bytes",
    ),
    "missing .zarray": (remove(f"{A}/.zarray"), f"{A}/.zarray is missing"),
    "missing receipt": (remove("lineage.json"), "lineage.json is missing"),
    "damaged receipt": (write("lineage.json", b"{"), "lineage.json: expected JSON"),
    "damaged metadata": (write("metadata/metadata", b"{" * 9), "metadata/metadata has"),
    "an extra chunk": (write(f"{A}/7.7", b"x"), f"{A}/7.7 was not saved with it"),
    "numbers": (not_a_number, f"{A} has 2 numbers not finite"),
    "a moment cut, old": (cut_without_checksums, f"{M} cannot be read"),
    "half copied": (half_copied, "is missing"),
    "missing array, old": (without_an_array, f"{A} is missing"),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_what_is_wrong_is_told_and_the_good_step_named(damage, message, job, verify):
    damage(checkpoint(job, 6))
    status, actual = verify()
    assert status == 1 and not actual["good"] and actual["newest_good_step"] == 4
    assert any(message in line for line in actual["checkpoints"][0]["problems"]), actual
    # What it tells a person to do leaves a job that is good.
    (command,) = [line for line in actual["how_to_go_on"] if line.startswith("mv ")]
    subprocess.run(shlex.split(command), check=True)
    status, actual = verify()
    assert status == 0 and actual["newest_good_step"] == 4


def test_what_a_terminal_obeys_is_not_printed(job, capsys):
    (checkpoints.directory(job) / "odd \x1b[2J").mkdir()
    assert main(["verify", str(job)]) == 0
    message = capsys.readouterr().out
    assert "odd \ufffd[2J" in message and "\x1b" not in message


def test_a_job_without_a_good_checkpoint(job, verify, capsys):
    for step in (2, 4, 6):
        remove(f"{A}/0.0")(checkpoint(job, step))
    status, actual = verify()
    assert status == 1 and actual["newest_good_step"] is None
    assert main(["verify", str(job)]) == 1
    message = capsys.readouterr().out
    assert "newest good step: none" in message and "start again" in message


def test_the_job_itself(job, verify):
    (job / "lineage.json").unlink()
    (checkpoints.directory(job) / "checkpoint_00000008.orbax-checkpoint-tmp-17").mkdir()
    status, actual = verify()
    assert status == 1 and actual["problems"] == ["lineage.json is missing"]
    assert "checkpoint_00000008.orbax-checkpoint-tmp-17" in actual["notes"][0]
    for step in (2, 4, 6):
        shutil.rmtree(checkpoint(job, step))
    assert "there is no complete checkpoint" in verify()[1]["problems"]


def test_an_old_checkpoint_has_none_and_is_no_worse_for_it(job, verify):
    checksums.file_path(checkpoint(job, 6)).unlink()
    checksums.write(checkpoint(job, 4), later=True)
    checksums.file_path(checkpoint(job, 2)).rename(checksums.file_path(checkpoint(job, 2), 0, 2))
    status, actual = verify()
    assert status == 0 and actual["newest_good_step"] == 6
    assert [one["checksums"] for one in actual["checkpoints"]] == ["none", "later", "in part"]


def test_what_is_no_folder_is_told(tmp_path, capsys):
    assert main(["verify", str(tmp_path / "nothing")]) == 1
    assert "nothing is not a directory; expected a job directory" in capsys.readouterr().err
