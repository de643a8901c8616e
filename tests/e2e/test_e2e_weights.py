"""Weights in and out around the stock binary: it decodes, trains and changes phase from them."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import tensorstore
import torch
import transformers
from praxis import base_layer

import codegen  # noqa: F401  (registers the experiments)
from codegen_pax import model
from codegen_pax.runs import completions, fingerprints
from codegen_pax.runs.checkpoint_arrays import read_variables
from experiments.declaration import find_declaration
from tests.weights.networks import logits
from tests.xla_flags import fake_devices

pytestmark = pytest.mark.e2e

FIRST = Path("checkpoints", "checkpoint_00000000")
SECOND = Path("checkpoints", "checkpoint_00000002")
MICRO = find_declaration("CodeGenMicroNL").size
NANO = find_declaration("CodeGenNanoNL").size
NEW = 64


def random_network(size, kind: str, seed: int) -> transformers.CodeGenForCausalLM:
    """A network of transformers in the shape of a size, all numbers random and of use."""
    config = transformers.CodeGenConfig(
        vocab_size=size.vocab_size,
        n_positions=size.context,
        n_embd=size.model_dims,
        n_layer=size.layers,
        n_head=size.heads,
        rotary_dim=size.rotary_dims,
    )
    with transformers.modeling_utils.no_init_weights():
        network = transformers.CodeGenForCausalLM(config).to(getattr(torch, kind)).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            scale = 1 / weight.shape[1] ** 0.5 if weight.ndim == 2 and "wte" not in name else 0.3
            weight.copy_(noise * scale + name.endswith(("ln_1.weight", "ln_f.weight")))
    return network


def flat(tree: dict, prefix: str = "") -> dict[str, np.ndarray]:
    actual = {}
    for name, value in tree.items():
        actual |= (
            flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
    return actual


def assert_equal(actual: Path, expected: Path) -> None:
    """Two checkpoints hold the same weights, as Pax restores them."""
    actual, expected = flat(read_variables(actual)), flat(read_variables(expected))
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


def test_the_stock_binary_decodes_as_transformers_does(pax, tmp_path):
    """Eight prompts, continued by the likeliest token: 64 tokens are the same, one by one."""
    network = random_network(MICRO, "float32", seed=1)
    network.save_pretrained(tmp_path / "source")
    job = tmp_path / "job"
    arguments = ("--experiment", "CodeGenMicroNL", "--output", str(job))
    pax.command("import", "hf", str(tmp_path / "source"), *arguments)
    pax.run("codegen.CodeGenMicroNL", job, "--mode=decode_once")
    rows = completions.read_decoded(job)
    assert len(rows) == 8
    for row in rows:
        prompt = torch.tensor([row["prefix_ids"]])
        with torch.no_grad():
            out = network.generate(
                prompt, max_new_tokens=NEW, do_sample=False, eos_token_id=50256, pad_token_id=50256
            )
        expected = out[0, prompt.shape[1] :].tolist()
        assert len(expected) == NEW and len({*expected}) > 1
        assert row["decoded_ids"][0][:NEW] == expected  # the experiment's own decoder goes on


def test_what_the_stock_binary_trained_goes_out_and_comes_back(pax, whole, tmp_path):
    """Trained on four devices, bias and all: the same logits in transformers, the same bytes."""
    module = ("--module", "short_experiments")
    exported, back = tmp_path / "exported", tmp_path / "back"
    pax.command("export", "hf", str(whole), str(exported), *module)
    pax.command("export", "gptj", str(whole), str(tmp_path / "gptj"), *module)
    trained = whole / "checkpoints" / "checkpoint_00000020"
    variables = read_variables(trained)
    assert np.any(variables["params"]["lm"]["embedding_lookup"]["b"])
    lm = base_layer.instantiate(
        model.language_model(
            layers=NANO.layers,
            model_dims=NANO.model_dims,
            heads=NANO.heads,
            head_dims=NANO.head_dims,
            rotary_dims=NANO.rotary_dims,
            vocab_size=NANO.vocab_size,
            embedding_bias=True,
        )
    )
    ids = np.random.default_rng(0).integers(0, NANO.vocab_size, (2, 33))
    tree = {"params": variables["params"]["lm"]}
    expected = np.asarray(lm.apply(tree, jnp.asarray(ids), jnp.zeros(ids.shape)).logits)
    for folder in (exported, tmp_path / "gptj"):
        network = transformers.AutoModelForCausalLM.from_pretrained(folder)
        np.testing.assert_allclose(logits(network, ids), expected, atol=1e-4)
    pax.command(
        "import", "hf", str(exported), "--experiment", "ShortNL", *module, "--output", str(back)
    )
    assert_equal(back / FIRST, trained)


@pytest.fixture(scope="module")
def phases(pax, tmp_path_factory):
    """The real 350M: imported as NL, trained in place for two steps; then Multi on another mesh."""
    folder = tmp_path_factory.mktemp("phases")
    size = find_declaration("CodeGen350MNL").size
    random_network(size, "bfloat16", seed=2).save_pretrained(folder / "source")
    nl, multi = folder / "nl", folder / "multi"
    experiment = ("--experiment", "SmallBatch350MNL", "--module", "real_experiments")
    source = str(folder / "source")
    first, second = (
        {"CODEGEN_MESH": mesh, "XLA_FLAGS": fake_devices(2)} for mesh in ("1x2x1", "1x1x2")
    )
    pax.command("import", "hf", source, *experiment, "--output", str(nl), **first)
    pax.run("real_experiments.SmallBatch350MNL", nl, **first)
    pax.run(
        "real_experiments.SmallBatch350MMulti",
        multi,
        CODEGEN_START_FROM=str(nl),
        **second,
    )
    return folder


def test_a_phase_of_the_real_350m_starts_from_the_last_ones_weights(phases):
    assert_equal(phases / "multi" / FIRST, phases / "nl" / SECOND)
    imported = flat(read_variables(phases / "nl" / FIRST))
    trained = flat(read_variables(phases / "nl" / SECOND))
    assert sum(array.size for array in trained.values()) == 356_713_472
    assert all(np.any(trained[name] != array) for name, array in imported.items())


def test_it_has_a_fresh_optimizer_and_step_0(phases):
    names, trained = (
        {path.parent.name for path in (job / "state").glob("*/.zarray")}
        for job in (phases / "multi" / FIRST, phases / "nl" / SECOND)
    )
    weights = [name for name in names if name.startswith("mdl_vars.")]
    assert names == trained and len([name for name in names if "opt_states" in name]) >= 2 * len(
        weights
    )
    for name in names:
        if name not in weights:
            directory = phases / "multi" / FIRST / "state" / name
            spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(directory)}}
            assert not np.any(tensorstore.open(spec, open=True).result().read().result())
    last = phases / "multi" / SECOND / "state"
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(last / "step")}}
    assert tensorstore.open(spec, open=True).result().read().result() == 2


def test_each_was_saved_on_its_own_mesh(phases):
    """The chunks are the devices' parts: of NL cut over D, of Multi over heads."""
    name = "mdl_vars.params.lm.transformer.repeat.sub.x_layers_0.self_attention.combined_qkv.w"
    for job, step, chunks in (("nl", 2, [20, 3, 512, 16, 64]), ("multi", 2, [20, 3, 1024, 8, 64])):
        folder = phases / job / "checkpoints" / f"checkpoint_{step:08d}" / "state" / name
        assert json.loads((folder / ".zarray").read_text())["chunks"] == chunks


def test_show_prints_the_chain_back_to_the_imported_files(pax, phases):
    (shown,) = json.loads(pax.command("show", str(phases / "multi"), "--json"))
    names = [(one.get("experiment"), one["kind"], one.get("step")) for one in shown["chain"]]
    assert names == [
        ("SmallBatch350MNL", "pax", 2),
        ("SmallBatch350MNL", "pax", 0),
        (None, "hugging face", None),
    ]
    last = phases / "nl" / SECOND
    assert shown["chain"][0]["sha256"] == fingerprints.fingerprint(last)["sha256"]
    assert shown["chain"][2]["files"] == fingerprints.hash_files(
        [phases / "source" / "model.safetensors"]
    )
    text = pax.command("show", str(phases / "multi"))
    assert f"step 2  {shown['chain'][0]['sha256'][:12]}  {phases / 'nl'}" in text


def test_its_export_has_the_weights_it_was_left_with(pax, phases):
    """Of the checkpoint as stock Pax stored it, all layers of a weight in each chunk."""
    folder = phases / "exported"
    arguments = (str(phases / "multi"), str(folder), "--module", "real_experiments")
    pax.command("export", "hf", *arguments, CODEGEN_MESH="1x1x2")
    state = transformers.CodeGenForCausalLM.from_pretrained(folder).state_dict()
    tree = read_variables(phases / "multi" / SECOND)["params"]["lm"]
    block = tree["transformer"]["repeat"]["sub"]["x_layers_0"]
    np.testing.assert_array_equal(
        state["transformer.h.13.mlp.fc_in.weight"].numpy().T,
        block["ff_layer"]["ffn_layer1"]["linear"]["w"][13],
    )
    np.testing.assert_array_equal(
        state["lm_head.bias"].numpy(), tree["softmax"]["logits_ffn"]["bias"]["b"]
    )
    np.testing.assert_array_equal(
        state["transformer.wte.weight"].numpy(),
        tree["embedding_lookup"]["emb_var"] + tree["embedding_lookup"]["b"],
    )
