"""The real Pax binary in child processes, on a mesh of 4 fake devices, in a user's directory."""

import os
import socket
from pathlib import Path

import pytest

from tests import pax_process
from tests.e2e import raw_corpora
from tests.pax_process import Process
from tests.xla_flags import fake_devices

MESH = "1x2x2"


class Pax:
    """Stock `paxml.main`, run from a directory that is not the project's."""

    def __init__(self, directory: Path):
        self.directory = directory
        paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        path = os.pathsep.join(paths)
        self.environment = {
            **os.environ,
            "PYTHONPATH": path,
            "CODEGEN_MESH": MESH,
            "XLA_FLAGS": fake_devices(4),
        }

    def start(self, experiment: str, job: Path, *flags: str, **settings: str) -> Process:
        """Starts one run; its output goes to `<job>.log`."""
        flags = (f"--exp={experiment}", f"--job_log_dir={job}", "--verbosity=0", *flags)
        environment = self.environment | settings
        return Process("paxml.main", flags, self.directory, environment, Path(f"{job}.log"))

    def start_hosts(
        self, experiment: str, job: Path, hosts: int, *flags: str, **settings: str
    ) -> list[Process]:
        """Starts a run on several hosts: a process each, which share four devices."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        settings |= {
            "CODEGEN_MESH": "1x4x1",
            "XLA_FLAGS": fake_devices(4 // hosts),
        }
        together = ()
        if hosts > 1:
            settings["JAX_CPU_COLLECTIVES_IMPLEMENTATION"] = "gloo"
            together = ("--multiprocess_gpu", f"--server_addr={address}", f"--num_hosts={hosts}")
        return [
            self.start(experiment, job, *flags, *together, f"--host_idx={host}", **settings)
            for host in range(hosts)
        ]

    def run_hosts(self, experiment: str, job: Path, hosts: int, *flags: str, **settings: str):
        """Runs on several hosts to the end."""
        for process in self.start_hosts(experiment, job, hosts, *flags, **settings):
            status = process.wait()
            assert status == 0, Path(f"{job}.log").read_text()[-6000:]

    def command(self, *arguments: str, **settings: str) -> str:
        """Runs `codegen-pax` as a person would; returns what it printed."""
        module, environment = "codegen_pax.cli.core.main", self.environment | settings
        done = pax_process.run(module, arguments, self.directory, environment)
        assert done.returncode == 0, done.stderr[-6000:]
        return done.stdout

    def run(self, experiment: str, job: Path, *flags: str, **settings: str) -> str:
        """Runs to the end; returns the output, which a failed run shows the end of."""
        status = self.start(experiment, job, *flags, **settings).wait()
        output = Path(f"{job}.log").read_text()
        assert status == 0, output[-6000:]
        return output


@pytest.fixture(scope="session")
def pax(tmp_path_factory):
    return Pax(tmp_path_factory.mktemp("elsewhere"))


@pytest.fixture(scope="session")
def whole(pax, tmp_path_factory):
    """A job that `codegen-pax run` trained for 20 steps without a stop, evaluated and decoded."""
    job = tmp_path_factory.mktemp("jobs") / "whole"
    module = ("--module", "short_experiments")
    printed = pax.command("run", "ShortNL", *module, "--output", str(job))
    (job / "printed.txt").write_text(printed)
    return job


def prepare(pax: Pax, folder: Path, corpus: str, *options: str) -> Path:
    """Writes the raw file of a corpus and prepares it in `folder`; returns where it lies."""
    raw = raw_corpora.write(corpus, folder)
    output = folder / "corpora" / corpus
    arguments = ("--input", str(raw), "--output", str(output), "--validation=0.1", "--workers=1")
    pax.command("prepare", corpus, *arguments, *options)
    return output


@pytest.fixture(scope="session")
def corpora(pax, tmp_path_factory):
    """`$CODEGEN_DATA` with each of the four corpora, in rows of 2,048 tokens."""
    folder = tmp_path_factory.mktemp("corpora")
    for corpus in raw_corpora.RAW:
        prepare(pax, folder, corpus)
    return folder / "corpora"
