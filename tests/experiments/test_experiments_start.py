"""What a host finds in a job's directory, for itself."""

import pytest
from etils import epath
from jax.experimental import multihost_utils
from paxml import checkpoint_paths

from codegen_pax.runs import checkpoints
from experiments import start


@pytest.mark.parametrize(
    ("there", "newest"),
    [
        (None, None),
        ([], None),
        (["checkpoint_00000004.orbax-checkpoint-tmp-17"], None),
        (["checkpoint_00000000"], 0),
        (["checkpoint_00000004", "checkpoint_00000012", "checkpoint_00000016.orbax-tmp-1"], 12),
    ],
)
def test_the_newest_whole_checkpoint_is_found_without_other_hosts(
    there, newest, tmp_path, monkeypatch
):
    """A host that asked the others would wait for ever for one that has seen no directory yet."""

    def ask(*_, **__):
        raise AssertionError("the other hosts were asked")

    monkeypatch.setattr(multihost_utils, "broadcast_one_to_all", ask)
    for name in there or ():
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    if there is not None:
        (tmp_path / "checkpoints").mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path.parent)
    for job in (epath.Path(tmp_path), epath.Path(tmp_path.name)):
        assert start.start_step(job) == checkpoints.last_step(job) == newest
    monkeypatch.undo()
    found = checkpoint_paths.latest_checkpoint_if_exists(epath.Path(tmp_path) / "checkpoints")
    wanted = None if newest is None else checkpoints.path(tmp_path, newest)
    assert found == wanted  # what the stock binary goes on with


def test_the_checkpoint_to_start_from_is_decided_once(tmp_path):
    """The parent may save another while it is checked, told of and loaded."""
    job = epath.Path(tmp_path)
    (tmp_path / "checkpoints" / "checkpoint_00000004").mkdir(parents=True)
    assert start.start_step(job) == 4
    (tmp_path / "checkpoints" / "checkpoint_00000008").mkdir()
    assert (start.start_step(job), checkpoints.last_step(job)) == (4, 8)
