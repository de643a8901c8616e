"""One run at a time trains in a job directory, and a dead run's lock is free at once."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from etils import epath
from jax.experimental import multihost_utils

from codegen_pax.runs import job_lock

ACQUIRE = """
import sys
from codegen_pax.runs import job_lock
job_lock.SIGN_SECONDS = 0.05
job_lock.acquire(sys.argv[1], "CodeGenNanoMono")
print("acquired", flush=True)
sys.stdin.read()
"""


def start(job):
    """A process that holds the lock of a directory until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", ACQUIRE, str(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "acquired\n"
    return process


@pytest.fixture
def job(tmp_path):
    """A job directory on a disk."""
    yield tmp_path / "job [1]"
    job_lock.release(tmp_path / "job [1]")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(job_lock, "SIGN_SECONDS", 0.02)
    monkeypatch.setattr(job_lock, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(job_lock, "SETTLING_SECONDS", 0.01)


@pytest.fixture
def url(quick, job, bucket):
    """The same directory as a URL of object storage, which has no locks."""
    yield f"{bucket}/{job.name}"
    job_lock.release(f"{bucket}/{job.name}")


def write_holder(job, **fields):
    """Writes what a run on another machine leaves."""
    job.mkdir(exist_ok=True)
    holder = {
        "token": "t",
        "experiment": "CodeGen6BMono",
        "host": "elsewhere",
        "pid": 7,
        "boot": "b",
        "time": time.time(),
        "signs": 1,
    }
    (job / job_lock.HOLDER_FILE).write_text(json.dumps(holder | fields))


def test_a_second_run_is_refused_until_the_first_is_killed(job):
    first = start(job)
    try:
        holder = job_lock.read_holder(job)
        assert holder["pid"] == first.pid and holder["host"] == os.uname().nodename
        with pytest.raises(job_lock.JobInUseError) as caught:
            job_lock.acquire(job, "CodeGenNanoMono")
        for word in (str(job), "CodeGenNanoMono", str(first.pid), holder["host"], holder["since"]):
            assert word in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert (job / job_lock.HOLDER_FILE).exists()
    begun = time.monotonic()
    job_lock.acquire(job, "CodeGenNanoMono")
    assert time.monotonic() - begun < job_lock.SILENCE_SECONDS / 2  # without a wait
    assert job_lock.read_holder(job)["pid"] == os.getpid()


def test_a_released_lock_leaves_nothing_that_is_waited_for(job):
    job_lock.acquire(job, "CodeGenNanoMono")
    token = job_lock.read_holder(job)["token"]
    job_lock.acquire(job, "CodeGenNanoMono")  # once more by the same run does nothing
    assert job_lock.read_holder(job)["token"] == token
    job_lock.release(job)
    assert job_lock.read_holder(job) is None
    job_lock.release(job)  # which does nothing
    job_lock.acquire(job, "CodeGenNanoMono")
    assert job_lock.read_holder(job)["token"] != token


@pytest.mark.parametrize("place", ["url", "job"])
def test_a_holder_beyond_the_reach_of_the_lock_is_dead_when_it_is_silent(
    place, job, quick, request
):
    write_holder(job)
    begun = time.monotonic()
    job_lock.acquire(request.getfixturevalue(place), "CodeGen6BMono")
    assert time.monotonic() - begun >= job_lock.SILENCE_SECONDS
    assert job_lock.read_holder(job)["pid"] == os.getpid()


def test_a_holder_that_was_silent_for_long_is_not_waited_for(url, job, monkeypatch):
    monkeypatch.setattr(job_lock, "SILENCE_SECONDS", 600)
    write_holder(job, time=time.time() - 100_000)
    job_lock.acquire(url, "CodeGen6BMono")
    assert job_lock.read_holder(job)["pid"] == os.getpid()


def test_in_object_storage_signs_of_life_hold_the_lock_until_the_end(url, job, monkeypatch):
    monkeypatch.setattr(job_lock, "SILENCE_SECONDS", 600)
    process = start(job)  # it gives a sign of life every 50 ms
    try:
        with pytest.raises(job_lock.JobInUseError, match="CodeGenNanoMono, process"):
            job_lock.acquire(url, "CodeGenNanoMono")
    finally:
        process.communicate()
    assert process.returncode == 0 and job_lock.read_holder(job) is None
    job_lock.acquire(url, "CodeGenNanoMono")


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"it": 1}', "[" * 10_000])
def test_an_unreadable_holder_is_waited_for_too(content, url, job):
    job.mkdir()
    (job / job_lock.HOLDER_FILE).write_text(content)
    job_lock.acquire(url, "CodeGenNanoMono")
    assert job_lock.read_holder(job)["pid"] == os.getpid()


def test_of_two_that_begin_at_once_in_object_storage_the_last_one_wins(url, job, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: write_holder(job))
    for _ in range(2):  # it has not got the lock, and so is refused again
        with pytest.raises(job_lock.JobInUseError, match="CodeGen6BMono, process 7 on elsewhere"):
            job_lock.acquire(url, "CodeGenNanoMono")
        write_holder(job, time=0.0)


def test_a_run_that_has_lost_its_lock_saves_no_more(url, job):
    job_lock.acquire(url, "CodeGenNanoMono")
    job_lock.check_held(url)
    write_holder(job)
    end = time.monotonic() + 60
    with pytest.raises(job_lock.JobInUseError, match="process 7 on elsewhere"):
        while time.monotonic() < end:
            job_lock.check_held(url)
            time.sleep(0.01)
    job_lock.release(url)
    assert job_lock.read_holder(job)["host"] == "elsewhere"  # who holds it now


def test_the_hosts_of_a_run_share_a_lock_and_are_all_refused(job, monkeypatch):
    """The first host acquires the lock; what it raises, the others raise too."""
    sent = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)

    def broadcast(values):
        sent.append(values)
        return sent[0]

    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", broadcast)
    write_holder(job)
    with open(job / job_lock.LOCK_FILE, "a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        for host in range(2):
            monkeypatch.setattr(jax, "process_index", lambda host=host: host)
            with pytest.raises(job_lock.JobInUseError, match="process 7 on elsewhere"):
                job_lock.acquire(job, "CodeGenNanoMono")
    (job / job_lock.HOLDER_FILE).unlink()
    sent.clear()
    for host in range(2):
        monkeypatch.setattr(jax, "process_index", lambda host=host: host)
        job_lock.acquire(epath.Path(job), "CodeGenNanoMono")
    assert job_lock.read_holder(job)["hosts"] == 2
    assert {np.asarray(values).dtype.itemsize for values in sent} == {4}  # JAX truncates others
