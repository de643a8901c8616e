"""`codegen-pax import jaxformer`, and how many groups a fused matrix has."""

import numpy as np
import pytest
import torch
import transformers

from codegen_pax.cli.core.main import main
from codegen_pax.runs import lineage
from codegen_pax.runs.checkpoint_arrays import read_variables
from codegen_pax.weights import layouts
from tests.cli.wide_networks import CHECKPOINT, EXPERIMENT, WIDE, here, refused, tell_apart
from tests.weights import in_memory
from tests.weights.networks import logits, save_jaxformer

pytestmark = pytest.mark.usefixtures(here.__name__)


def fuse(state, mp_num: int) -> dict[str, np.ndarray]:
    """Returns jaxformer's parameters, grouped for so many cores, of transformers' state dict."""
    dims = WIDE.dims()
    tree = in_memory.from_hugging_face({n: a.numpy() for n, a in state.items()}, dims)
    bias = np.linspace(-1, 1, dims.model_dims, dtype=np.float32)
    parameters = in_memory.to_jaxformer(tree, dims, mp_num=mp_num)
    return parameters | {layouts.EMBEDDING_BIAS.jaxformer: bias}


@pytest.mark.parametrize("mp_num", [1, 2, 4, 8])
def test_jaxformers_cores_are_found_out_and_a_wrong_number_is_refused(
    mp_num, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("CODEGEN_RECIPE", "paper")  # the bias is folded in
    network = tell_apart(WIDE.hugging_face())
    parameters = fuse(network.state_dict(), mp_num)
    save_jaxformer(parameters, tmp_path / "7")
    start = ("import", "jaxformer", str(tmp_path / "7"), *EXPERIMENT, "--output")
    wrong = 4 if mp_num == 8 else 8
    message = refused(capsys, *start, tmp_path / "wrong", f"--mp-num={wrong}")
    assert f"the weights do not have {wrong} column groups: mp_num is {mp_num}" in message
    assert main([*start, str(tmp_path / "job")]) == 0
    assert f"mp_num is {mp_num}: the norms" in capsys.readouterr().out
    actual = read_variables(tmp_path / "job" / CHECKPOINT)["params"]["lm"]
    expected = in_memory.from_jaxformer(parameters, WIDE.dims(), mp_num=mp_num)
    np.testing.assert_array_equal(
        actual["embedding_lookup"]["emb_var"], expected["embedding_lookup"]["emb_var"]
    )
    (parent,) = lineage.read(tmp_path / "job")["parents"]
    assert parent["kind"] == "jaxformer" and parent["step"] == 7
    export = ("export", "hf", str(tmp_path / "job"), str(tmp_path / "there"))
    assert main([*export, "--module", "tests.cli.wide_experiments"]) == 0
    there = transformers.CodeGenForCausalLM.from_pretrained(tmp_path / "there")
    with torch.no_grad():
        network.transformer.wte.weight += torch.linspace(-1, 1, WIDE.model_dims)
    ids = np.random.default_rng(0).integers(0, WIDE.vocab_size, (2, 9))
    np.testing.assert_allclose(logits(there, ids), logits(network, ids), rtol=0, atol=1e-4)


def test_a_number_that_cannot_be_found_out_is_asked_for(tmp_path, capsys):
    parameters = fuse(WIDE.hugging_face().state_dict(), 4)
    save_jaxformer(parameters, tmp_path / "7")
    start = ("import", "jaxformer", str(tmp_path / "7"), *EXPERIMENT, "--output")
    message = refused(capsys, *start, tmp_path / "job", status=2)
    assert "cannot tell mp_num from the weights" in message
    assert "give --mp-num, which is 8 for weights trained on TPU v3, 4 on v4" in message
    assert main([*start, str(tmp_path / "job"), "--mp-num=4"]) == 0


def test_a_wrong_number_can_be_insisted_on(tmp_path, capsys):
    source = tmp_path / "source"
    tell_apart(WIDE.hugging_face()).save_pretrained(source)
    start = ("import", "hf", source, *EXPERIMENT, "--mp-num=2", "--output")
    assert "do not have 2 column groups" in refused(capsys, *start, tmp_path / "a")
    assert main([*map(str, start), str(tmp_path / "a"), "--no-check-mp-num"]) == 0
