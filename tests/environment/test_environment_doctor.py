"""The doctor, before environments that are wrong in one known way each."""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from codegen_pax.cli import doctor
from codegen_pax.environment import diagnose, diagnosis

ROOT = Path(__file__).parents[2]


def locked(package):
    """Returns a package's version in the lock, read without the code under test."""
    text = (ROOT / "requirements" / "base.txt").read_text()
    return re.search(rf"^{re.escape(package)}==(\S+)", text, re.MULTILINE)[1]


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Lays the metadata of a package where the interpreter looks first."""

    def lay(package, version):
        # Directories are named as installers name them: orbax_checkpoint-0.5.9.dist-info.
        folder = tmp_path / f"{package.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
        )
        monkeypatch.syspath_prepend(tmp_path)

    return lay


@pytest.fixture
def no_tpu(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnosis, "PCI", tmp_path / "no-such-bus")


def named(findings, check):
    (finding,) = (finding for finding in findings if finding.check == check)
    return finding


def test_each_wrong_package_is_named_with_its_cure(install):
    wrong = {"jax": "0.6.0", "numpy": "2.2.6", "orbax-checkpoint": "0.11.13"}
    for package, version in wrong.items():
        install(package, version)
    findings = diagnose()
    for package, version in wrong.items():
        finding = named(findings, package)
        assert finding.status == "error"
        assert finding.found == version
        assert finding.expected == locked(package)
        assert finding.mend.endswith(f"{package}=={locked(package)}")
        assert finding.why
    # JAX is not imported by packages known to be wrong.
    assert named(findings, "devices").found == "not checked"


@pytest.mark.parametrize(
    ("package", "version"), [("ruff", "0.1.0"), ("jax-cuda12-plugin", "0.6.0"), ("torch", "2.0.0")]
)
def test_what_is_there_of_the_other_locks_is_looked_at(install, package, version):
    assert not list(
        diagnosis.extras({"torch": (diagnosis.pins.locked("torch.txt")["torch"] + "+cpu",)})
    )
    install(package, version)
    finding = named(diagnose(), package)
    assert (finding.status, finding.found) == ("warning", version)
    assert f"{package}=={finding.expected}" in finding.mend


def test_only_the_wrong_package_is_named(install):
    before = {finding.check for finding in diagnose()}
    install("orbax-checkpoint", "0.5.12")
    after = {finding.check for finding in diagnose()}
    assert after - before == {"orbax-checkpoint"}


def test_a_package_outside_the_tested_stack_is_a_warning(install):
    install("certifi", "1999.1.1")
    finding = named(
        diagnosis.packages({"certifi": "2026.1.1"}, diagnosis.pins.installed()), "certifi"
    )
    assert (finding.status, finding.found) == ("warning", "1999.1.1")


def test_a_missing_package_is_an_error():
    lock = {"no-such-package": "1.0"}
    (finding,) = diagnosis.packages(lock, diagnosis.pins.installed())
    assert (finding.status, finding.found, finding.expected) == ("error", "nothing", "1.0")


def test_two_versions_of_one_package_are_both_named(install):
    install("jax", "0.5.3")
    install("jax", "0.6.0")
    finding = named(diagnose(), "jax")
    assert (finding.status, finding.found) == ("error", "0.5.3 and 0.6.0")
    assert "uninstall" in finding.mend


def test_the_environment_of_the_tests_is_as_locked():
    # So the test packages and PyTorch have moved nothing.
    finding = named(diagnose(), "packages")
    assert finding.status == "ok"


def test_another_python_is_named(monkeypatch):
    monkeypatch.setattr(diagnosis.sys, "version_info", (3, 12, 1, "final", 0))
    monkeypatch.setattr(diagnosis.platform, "python_version", lambda: "3.12.1")
    finding = diagnosis.python()
    assert (finding.status, finding.found, finding.expected) == ("error", "3.12.1", "3.11")
    assert "PYTHON=" in finding.mend


def test_libtpu_without_a_tpu_is_an_error_unless_the_platform_is_set(install, no_tpu, monkeypatch):
    install("libtpu", "0.0.11.4")
    monkeypatch.setenv("JAX_PLATFORMS", "")
    findings = diagnose()
    assert named(findings, "libtpu").status == "error"
    assert "JAX_PLATFORMS" in named(findings, "libtpu").mend
    # JAX would hang: it is not checked.
    assert named(findings, "devices").found == "not checked"
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert diagnosis.libtpu(diagnosis.pins.installed()).status == "ok"


def test_a_tpu_without_libtpu_is_an_error(tmp_path, monkeypatch):
    for name, vendor, device in (
        ("0000:00:04.0", "0x1ae0", "0x005e"),  # a TPU v4 chip
        ("0000:00:05.0", "0x1ae0", "0x005e"),
        ("0000:00:06.0", "0x1ae0", "0x0042"),  # a network card of the same maker
        ("0000:00:07.0", "0x10de", "0x005e"),  # another maker's device of that number
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(f"{vendor}\n")
        (tmp_path / name / "device").write_text(f"{device}\n")
    monkeypatch.setattr(diagnosis, "PCI", tmp_path)
    assert diagnosis.tpu_chips() == 2
    finding = diagnosis.libtpu({})
    assert (finding.status, finding.found, finding.expected) == ("error", "nothing", "0.0.11.4")


@pytest.fixture
def jax_that(tmp_path, monkeypatch):
    """Puts a module called jax before the real one, for child processes alone."""

    def write(source):
        (tmp_path / "jax.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    return write


def test_devices_are_counted_by_kind(jax_that, tmp_path, monkeypatch):
    """By the JAX that is installed, not by what lies where the command was given."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "jax.py").write_text("raise RuntimeError('the code of a run')\n")
    monkeypatch.chdir(tmp_path / "run")
    jax_that(
        "from types import SimpleNamespace as S\n"
        "def devices():\n"
        "    return [S(platform='tpu', device_kind='TPU v4')] * 4\n"
    )
    finding = diagnosis.devices()
    assert (finding.status, finding.found) == ("ok", "4 x tpu TPU v4")


def test_a_jax_that_hangs_is_given_up(jax_that, monkeypatch):
    jax_that("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(diagnosis, "DEVICE_SECONDS", 1)
    finding = diagnosis.devices()
    assert (finding.status, finding.found) == ("error", "no answer in 1 s")


def test_a_jax_that_aborts_takes_only_the_child(jax_that):
    jax_that("import os\nos.abort()\n")
    finding = diagnosis.devices()
    assert (finding.status, finding.found) == ("error", "it ended with status -6")


def test_a_jax_that_raises_is_quoted(jax_that):
    jax_that("raise RuntimeError('no such backend')\n")
    finding = diagnosis.devices()
    assert (finding.status, finding.found) == ("error", "RuntimeError: no such backend")


@pytest.mark.parametrize(
    ("free", "status"), [(50 * 10**9, "ok"), (5 * 10**9, "warning"), (10**8, "error")]
)
def test_free_disk_is_judged_by_checkpoints(free, status, tmp_path, monkeypatch):
    usage = type(diagnosis.shutil.disk_usage(tmp_path))(free, 0, free)
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda path: usage)
    finding = diagnosis.disk(tmp_path)
    assert finding.status == status
    assert finding.found == f"{free / 10**9:.1f} GB free"


def test_another_module_called_tasks_is_named(tmp_path, monkeypatch):
    (tmp_path / "tasks.py").write_text("")
    monkeypatch.delitem(sys.modules, "tasks", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    finding = named(diagnosis.modules(), "module tasks")
    assert (finding.status, finding.found) == ("error", str(tmp_path / "tasks.py"))
    assert str(ROOT) in finding.expected


def test_it_works_with_the_standard_library_alone():
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from codegen_pax.environment import diagnose\n"
        "print(*(finding.check for finding in diagnose() if finding.found == 'nothing'))"
    )
    # -S: no site-packages, as if nothing had been installed.
    answer = subprocess.run(
        [sys.executable, "-S", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    lock = (ROOT / "requirements" / "base.txt").read_text().splitlines()
    pinned = [line.split("==")[0] for line in lock if line and not line.startswith("#")]
    assert answer.stdout.split() == pinned


def report(*words):
    parser = argparse.ArgumentParser()
    doctor.add_arguments(parser)
    return doctor.run(parser.parse_args(words))


def test_the_command_prints_objects_and_fails_on_an_error(install, capsys):
    install("jax", "0.6.0")
    assert report("--json") == 1
    objects = json.loads(capsys.readouterr().out)
    (jax,) = (item for item in objects if item["check"] == "jax")
    assert (jax["status"], jax["found"], jax["expected"]) == ("error", "0.6.0", locked("jax"))


def test_the_command_shows_what_is_wrong_and_its_cure(install, capsys):
    install("jax", "0.6.0")
    assert report() == 1
    text = capsys.readouterr().out
    assert re.search(rf"error +jax +found 0\.6\.0, expected {locked('jax')}\n", text)
    assert f"jax=={locked('jax')}\n" in text


def test_warnings_alone_do_not_fail_the_command(monkeypatch, capsys):
    warning = diagnosis.Finding("disk", "warning", "5.0 GB free", "10 GB", "free some")
    monkeypatch.setattr(doctor, "diagnose", lambda: [warning])
    assert report() == 0
    assert "Errors: 0; warnings: 1." in capsys.readouterr().out
