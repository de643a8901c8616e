"""One run a job's directory: told before it trains, and free again as soon as it is dead."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath

from codegen_pax.runs import job_lock

HOLD = """
import sys, time
from codegen_pax.runs import holder
holder.SIGN_SECONDS = 0.05
holder.hold(sys.argv[1], "CodeGenNanoMono")
print("held", flush=True)
sys.stdin.read()
"""


def start(job):
    """A process that holds a directory until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    return process


@pytest.fixture
def job(tmp_path):
    yield tmp_path / "job [1]"
    for hold in [*job_lock._held.values()]:
        hold.release()


def test_the_second_is_told_who_trains_and_what_a_killed_one_held_is_free(job):
    first = start(job)
    try:
        said = json.loads((job / job_lock.FILE).read_text())
        assert said["pid"] == first.pid and said["host"] == os.uname().nodename
        with pytest.raises(job_lock.JobInUseError) as caught:
            job_lock.hold(job, "CodeGenNanoMono")
        for word in (str(job), "CodeGenNanoMono", str(first.pid), said["host"], said["since"]):
            assert word in str(caught.value)
        assert len(str(caught.value).splitlines()) == 1
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert (job / job_lock.FILE).exists()
    begun = time.monotonic()
    job_lock.hold(job, "CodeGenNanoMono")
    assert time.monotonic() - begun < job_lock.SILENCE_SECONDS / 2  # nobody was waited for
    assert job_lock.read(job)["pid"] == os.getpid()
    job_lock.hold(job, "CodeGenNanoMono")  # once more by the same run: nothing
    # Whoever ends leaves nothing that is waited for.
    job_lock._held[str(job)].release()
    assert job_lock.read(job) is None
    assert str(job) not in job_lock._held


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(job_lock, "SIGN_SECONDS", 0.02)
    monkeypatch.setattr(job_lock, "SILENCE_SECONDS", 0.4)
    monkeypatch.setattr(job_lock, "_SETTLED_SECONDS", 0.01)


@pytest.fixture
def bucket(quick, monkeypatch):
    """Directories are taken for buckets: nothing locks them."""
    monkeypatch.setattr(job_lock, "_is_url", lambda job: True)


def elsewhere(job, **said):
    """What a run of another machine left."""
    job.mkdir(exist_ok=True)
    found = {
        "token": "t",
        "experiment": "CodeGen6BMono",
        "host": "elsewhere",
        "pid": 7,
        "boot": "b",
    }
    (job / job_lock.FILE).write_text(json.dumps(found | {"time": time.time(), "signs": 1} | said))


@pytest.mark.parametrize("here", ["bucket", "quick"])
def test_a_holder_that_no_lock_tells_of_is_dead_when_it_is_silent(here, job, request):
    request.getfixturevalue(here)
    elsewhere(job)
    begun = time.monotonic()
    job_lock.hold(job, "CodeGen6BMono")
    assert time.monotonic() - begun >= job_lock.SILENCE_SECONDS
    assert job_lock.read(job)["pid"] == os.getpid()


def test_one_that_was_silent_for_long_is_not_waited_for(bucket, job, monkeypatch):
    monkeypatch.setattr(job_lock, "SILENCE_SECONDS", 600)
    elsewhere(job, time=time.time() - 100_000)
    job_lock.hold(job, "CodeGen6BMono")
    assert job_lock.read(job)["pid"] == os.getpid()


def test_in_a_bucket_a_sign_of_life_holds_and_an_end_does_not(bucket, job, monkeypatch):
    monkeypatch.setattr(job_lock, "SILENCE_SECONDS", 600)
    process = start(job)  # it writes a sign every 50 ms
    try:
        with pytest.raises(job_lock.JobInUseError, match="CodeGenNanoMono, process"):
            job_lock.hold(job, "CodeGenNanoMono")
    finally:
        process.communicate()
    assert process.returncode == 0 and job_lock.read(job) is None
    job_lock.hold(job, "CodeGenNanoMono")


@pytest.mark.parametrize("content", ["", "{", "[]", "7", '{"it": 1}', "[" * 10_000])
def test_what_is_no_holder_is_waited_for_as_one(content, bucket, job):
    job.mkdir()
    (job / job_lock.FILE).write_text(content)
    job_lock.hold(job, "CodeGenNanoMono")
    assert job_lock.read(job)["pid"] == os.getpid()


def test_of_two_that_begin_at_once_in_a_bucket_the_last_one_holds_it(bucket, job, monkeypatch):
    monkeypatch.setattr(job_lock.time, "sleep", lambda seconds: elsewhere(job))
    with pytest.raises(job_lock.JobInUseError, match="CodeGen6BMono, process 7 on elsewhere"):
        job_lock.hold(job, "CodeGenNanoMono")
    assert str(job) not in job_lock._held


def test_one_that_has_lost_its_directory_saves_no_more(bucket, job):
    job_lock.hold(job, "CodeGenNanoMono")
    job_lock.check_held(job)
    elsewhere(job)
    end = time.monotonic() + 60
    while not job_lock._held[str(job)].lost and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises(job_lock.JobInUseError, match="process 7 on elsewhere"):
        job_lock.check_held(job)
    job_lock._held[str(job)].release()
    assert job_lock.read(job)["host"] == "elsewhere"  # whose it is now


def test_hosts_of_one_run_are_one_holder_and_all_are_told(job, monkeypatch):
    """The first host takes the directory; what it finds, the others raise too."""
    sent = []
    monkeypatch.setattr(job_lock.jax, "process_count", lambda: 2)

    def broadcast(values):
        sent.append(values)
        return sent[0]

    monkeypatch.setattr(job_lock.multihost_utils, "broadcast_one_to_all", broadcast)
    process = start(job)
    try:
        for host in range(2):
            monkeypatch.setattr(job_lock.jax, "process_index", lambda host=host: host)
            with pytest.raises(job_lock.JobInUseError, match=rf"process {process.pid} on"):
                job_lock.hold(job, "CodeGenNanoMono")
    finally:
        process.communicate()
    sent.clear()
    for host in range(2):
        monkeypatch.setattr(job_lock.jax, "process_index", lambda host=host: host)
        job_lock.hold(epath.Path(job), "CodeGenNanoMono")
    assert job_lock.read(job)["hosts"] == 2
    assert {np.asarray(values).dtype.itemsize for values in sent} == {4}  # of more, JAX cuts
