"""The real Pax binary in child processes, on a mesh of 8 fake devices, in a user's directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

MESH = "1x4x2"


class Pax:
    """Stock `paxml.main`, run from a directory that is not the project's."""

    def __init__(self, directory: Path):
        self.directory = directory
        here = str(Path(__file__).parent)
        self.environment = {**os.environ, "PYTHONPATH": here, "CODEGEN_MESH": MESH}

    def start(self, experiment: str, job: Path, *flags: str, **settings: str) -> subprocess.Popen:
        """Starts one run; its output goes to `<job>.log`."""
        command = [
            sys.executable,
            "-m",
            "paxml.main",
            f"--exp={experiment}",
            f"--job_log_dir={job}",
            "--verbosity=0",
            *flags,
        ]
        with open(f"{job}.log", "a") as log:
            return subprocess.Popen(
                command,
                cwd=self.directory,
                env=self.environment | settings,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def command(self, *arguments: str) -> str:
        """Runs `codegen-pax` as a person would; returns what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "codegen_pax.cli.main", *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
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
