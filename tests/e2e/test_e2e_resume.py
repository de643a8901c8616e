"""A run that was stopped, however, goes on as if it had not been: on one host, two and four."""

import re
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from codegen_pax.runs import lineage, summary
from codegen_pax.runs.checkpoint_arrays import read_variables
from tests.e2e import conftest, prepared_experiments

pytestmark = pytest.mark.e2e

EXPERIMENT = "prepared_experiments.Resumed"
STEPS = prepared_experiments.STEPS
PATIENCE = 240  # seconds for a step to come


@pytest.fixture(scope="module")
def data(pax, tmp_path_factory):
    """Settings of a run: six languages in rows of 64 tokens, and no start weights."""
    folder = tmp_path_factory.mktemp("short_rows")
    conftest.prepare(pax, folder, "bigquery", "--row-length=64")
    return {"CODEGEN_DATA": str(folder / "corpora"), "CODEGEN_START_FROM": "scratch"}


def checkpoint(job: Path, step: int) -> Path:
    return job / "checkpoints" / f"checkpoint_{step:08d}"


def unfinished(job: Path, step: int) -> list[Path]:
    return list(job.glob(f"checkpoints/checkpoint_{step:08d}.orbax-checkpoint-tmp*"))


def steps_in(log: Path) -> list[int]:
    return [
        int(step) for step in re.findall(r"Wrote summary entry at step `(\d+)`", log.read_text())
    ]


def wait_for(condition, processes) -> None:
    """Waits until `condition` holds while all processes run."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert all(process.poll() is None for process in processes), (
            "it ended before it was stopped"
        )
        assert time.monotonic() < end, "it did not come so far"
        time.sleep(0.002)


def stop(processes, number=signal.SIGKILL) -> None:
    for process in processes:
        process.send_signal(number)
    for process in processes:
        process.wait(PATIENCE)


def trained_since(job: Path):
    """A condition: the run that is started now has written a summary of at least this step."""
    log = Path(f"{job}.log")
    before = len(steps_in(log)) if log.exists() else 0
    return lambda step: log.exists() and max(steps_in(log)[before:], default=0) >= step


def losses(job: Path) -> dict[int, np.float32]:
    """Step -> cross-entropy, exactly as it was written."""
    return {scalar.step: np.float32(scalar.value) for scalar in summary.training_losses(job)}


def weights(job: Path) -> dict[str, np.ndarray]:
    def flat(tree, prefix=""):
        for name, value in tree.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    return dict(flat(read_variables(checkpoint(job, STEPS))))


def assert_equal_to_the_bit(job: Path, expected: Path) -> None:
    assert losses(job) == losses(expected)
    assert sorted(losses(job)) == list(range(1, STEPS + 1))
    actual = weights(job)
    for name, array in weights(expected).items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


def whole_run(pax, folder, data, hosts: int) -> Path:
    job = folder / f"whole{hosts}"
    pax.run_hosts(EXPERIMENT, job, hosts, "--eval_on_test", **data)
    return job


@pytest.fixture(scope="module")
def one_host(pax, data, tmp_path_factory):
    return whole_run(pax, tmp_path_factory.mktemp("one_host"), data, 1)


@pytest.fixture(scope="module")
def two_hosts(pax, data, tmp_path_factory):
    return whole_run(pax, tmp_path_factory.mktemp("two_hosts"), data, 2)


def test_the_loss_is_of_every_language_and_falls(one_host):
    actual = losses(one_host)
    assert actual[1] == pytest.approx(np.log(51_200), abs=0.5)
    assert actual[STEPS] < actual[1] - 1
    assert checkpoint(one_host, 4).is_dir()  # where it is evaluated too
    evaluated = summary.evaluation_losses(one_host, "codegen_bigquery")
    assert [scalar.step for scalar in evaluated] == [0, 4, 8, 12]


def test_killed_between_checkpoints_and_while_one_is_written_and_stopped(
    pax, data, one_host, tmp_path
):
    job = tmp_path / "killed"

    def start():
        return pax.start_hosts(EXPERIMENT, job, 1, "--eval_on_test", **data)

    trained = trained_since(job)
    processes = start()
    wait_for(lambda: trained(5), processes)
    stop(processes)
    assert checkpoint(job, 4).is_dir() and not checkpoint(job, 8).exists()

    processes = start()
    wait_for(lambda: unfinished(job, 8), processes)
    stop(processes)
    assert unfinished(job, 8) and not checkpoint(job, 8).exists()

    trained = trained_since(job)
    processes = start()
    wait_for(lambda: trained(5), processes)
    stop(processes, signal.SIGTERM)
    assert not checkpoint(job, STEPS).exists()

    pax.run_hosts(EXPERIMENT, job, 1, "--eval_on_test", **data)
    assert_equal_to_the_bit(job, one_host)


def test_two_hosts_stopped_killed_together_and_one_of_them_alone(pax, data, two_hosts, tmp_path):
    job = tmp_path / "stopped"

    def start():
        flags = ("--eval_on_test", "--exit_after_ondemand_checkpoint")
        return pax.start_hosts(EXPERIMENT, job, 2, *flags, **data)

    trained = trained_since(job)
    processes = start()
    wait_for(lambda: trained(1), processes)
    stop(processes, signal.SIGTERM)
    # A polite stop of several hosts is answered by a checkpoint where they stand.
    preempted = re.findall(
        r"Saving checkpoint at step (\d+) due to preemption", Path(f"{job}.log").read_text()
    )
    (saved,) = {int(step) for step in preempted}  # all hosts at the same one
    assert saved < 8 and checkpoint(job, saved).is_dir() and max(losses(job)) == saved

    processes = start()
    wait_for(lambda: unfinished(job, 8), processes)
    stop(processes)
    assert unfinished(job, 8) and not checkpoint(job, 8).exists()

    trained = trained_since(job)
    processes = start()
    wait_for(lambda: trained(9), processes)
    stop(processes[1:])
    time.sleep(1)
    stop(processes[:1])
    assert checkpoint(job, 8).is_dir() and not checkpoint(job, STEPS).exists()

    pax.run_hosts(EXPERIMENT, job, 2, "--eval_on_test", **data)
    assert_equal_to_the_bit(job, two_hosts)


def test_one_two_and_four_hosts_read_the_same_rows(pax, data, one_host, two_hosts, tmp_path):
    """Four hosts go on where two were stopped."""
    for step, loss in losses(two_hosts).items():
        assert loss == pytest.approx(losses(one_host)[step], rel=1e-6)
    job = tmp_path / "four_hosts"
    (job / "checkpoints").mkdir(parents=True)
    shutil.copy(two_hosts / lineage.FILE, job)
    shutil.copytree(checkpoint(two_hosts, 4), checkpoint(job, 4))
    pax.run_hosts(EXPERIMENT, job, 4, **data)
    actual = losses(job)
    assert sorted(actual) == list(range(5, STEPS + 1))
    for step, loss in actual.items():
        assert loss == pytest.approx(losses(one_host)[step], rel=1e-6)


def test_other_data_is_refused(pax, data, one_host, tmp_path):
    """Before a step is trained, in one line that says what has changed."""
    job = tmp_path / "changed"
    shutil.copytree(one_host, job)
    conftest.prepare(pax, tmp_path, "bigquery", "--row-length=64", "--seed=1")
    changed = data | {"CODEGEN_DATA": str(tmp_path / "corpora")}
    (process,) = pax.start_hosts(EXPERIMENT, job, 1, **changed)
    assert process.wait(PATIENCE) != 0
    message = [
        line for line in Path(f"{job}.log").read_text().splitlines() if "ChangedDataError" in line
    ]
    assert "codegen_bigquery is not what the checkpoint was trained on" in message[-1]
    assert "codegen_bigquery_rust data: then" in message[-1]
