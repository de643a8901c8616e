"""Networks for `wide_experiments`, and how the verbs are called on them."""

import importlib
from pathlib import Path

import pytest
import torch

from codegen_pax.cli.core.main import main
from codegen_pax.weights import fused_qkv, layouts
from tests.weights.networks import Network

HERE = Path(__file__).parent

WIDE = Network(layers=4, model_dims=64, heads=8, rotary_dims=4, context=256, vocab_size=2_048)
EXPERIMENT = ("--experiment", "Wide", "--module", "tests.cli.wide_experiments")
CHECKPOINT = Path("checkpoints", "checkpoint_00000000")


@pytest.fixture
def here(monkeypatch):
    """Where the user's module lies; the settings of a run are those of the test."""
    monkeypatch.chdir(HERE)
    monkeypatch.setenv("CODEGEN_RECIPE", "jaxformer")
    importlib.import_module(
        "tests.cli.wide_experiments"
    )  # paxml tells of it once, not in a test's output


def tell_apart(network):
    """Gives queries and keys other norms than values, as training does."""
    with torch.no_grad():
        for block in network.transformer.h:
            mp_num = layouts.HUGGING_FACE_MP_NUM
            groups = block.attn.qkv_proj.weight.view(mp_num, 3, -1, WIDE.model_dims)
            for projection in (fused_qkv.QUERY, fused_qkv.KEY):
                groups[:, fused_qkv.FUSED_ORDER.index(projection)] *= 1.7
    return network


def refused(capsys, *arguments, status=1) -> str:
    """The one line that a call is refused with."""
    assert main([str(argument) for argument in arguments]) == status
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    return message
