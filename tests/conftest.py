"""What every test shares, chosen before JAX is imported: the CPU, seen as eight devices; no hub."""

import gc
import os
import sys

import pytest

from tests import import_closure, xla_flags

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = xla_flags.fake_devices(8)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["HF_HUB_OFFLINE"] = "1"
for name in [name for name in os.environ if name.startswith("CODEGEN_")]:
    del os.environ[name]  # each test chooses its own


def pytest_addoption(parser):
    parser.addoption(
        "--quick",
        action="store_true",
        help="only the test files that import nothing heavy, directly or through other files",
    )


def pytest_ignore_collect(collection_path, config):
    if config.getoption("--quick") and collection_path.match("test_*.py"):
        return bool(import_closure.heavy_imports(collection_path)) or None
    return None


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """What the test files import stays: nothing looks through it for garbage, then or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def quick_tests_import_nothing_heavy(request):
    """Keeps `--quick` honest: what the sources did not show is found when it has been imported."""
    yield
    if request.config.getoption("--quick"):
        # A test of URLs may reach TensorFlow, which opens them, and by way of etils alone.
        actual = import_closure.HEAVY & sys.modules.keys() - import_closure.OPENS_URLS
        assert not actual, f"quick tests have imported {', '.join(sorted(actual))}"


@pytest.fixture(autouse=True)
def no_corpora():
    """A test that sets the folder of prepared corpora leaves none behind."""
    yield
    if seqio_sources := sys.modules.get("codegen_pax.data.seqio_sources"):
        seqio_sources.set_corpora_folder(None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Gives each file to one worker, and all runs of the binary to the same.

    A run has a thread for each of its devices. Two runs at once on two cores take more than twice
    as long as one after the other, since threads that wait for one another hold the cores.
    """
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            return "e2e" if nodeid.startswith("tests/e2e/") else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    """The long files first, so that no worker begins one when the other has nothing left to do."""
    items.sort(key=lambda item: item.get_closest_marker("e2e") is None)
