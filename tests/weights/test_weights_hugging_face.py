"""The settings beside exported weights, and those that are found: against transformers' own."""

import dataclasses
import json
import re

import pytest
import torch
import transformers
from transformers.activations import ACT2FN
from transformers.utils import logging

from codegen_pax.text.tokenizer import write_tokenizer
from codegen_pax.weights import hugging_face
from codegen_pax.weights.card import card
from experiments.sizes import SIZES

SIZE = dataclasses.replace(
    SIZES["Nano"], model_dims=32, heads=4, head_dims=8, rotary_dims=4, context=128
)
CLASSES = {
    "codegen": (transformers.CodeGenConfig, transformers.CodeGenForCausalLM),
    "gptj": (transformers.GPTJConfig, transformers.GPTJForCausalLM),
}
SIZE_IN_TRANSFORMERS = {
    "vocab_size": 51_200,
    "n_positions": 128,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "rotary_dim": 4,
}
BY_TYPE = pytest.mark.parametrize("model_type", CLASSES)
BY_DTYPE = pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])


@pytest.fixture(scope="module")
def networks():
    """transformers' own networks with random weights, made with its own configuration."""
    found = {}
    for model_type, (config, network) in CLASSES.items():
        torch.manual_seed(0)
        found[model_type] = network(config(**SIZE_IN_TRANSFORMERS)).eval()
        with torch.no_grad():
            for weight in found[model_type].parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return found


def export(network, folder, model_type, dtype="float32", vocabulary="codegen"):
    """Its weights as transformers writes them, and everything else as we do."""
    network.save_pretrained(folder)
    (folder / "config.json").unlink()
    (folder / "generation_config.json").unlink()
    tokenizer = write_tokenizer(folder, vocabulary, SIZE.context)
    config = hugging_face.config(
        SIZE, model_type=model_type, dtype=dtype, tokenizer_class=tokenizer
    )
    (folder / "config.json").write_text(json.dumps(config))
    said = json.dumps(hugging_face.generation_config())
    (folder / "generation_config.json").write_text(said)


@BY_TYPE
@pytest.mark.parametrize("vocabulary", ["codegen", "gpt2"])
def test_the_network_loads_without_a_warning_and_generates(
    model_type, vocabulary, networks, tmp_path, caplog, monkeypatch
):
    network = networks[model_type]
    export(network, tmp_path, model_type, vocabulary=vocabulary)
    monkeypatch.setattr(logging.get_logger("transformers"), "propagate", True)
    loaded, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert type(loaded) is CLASSES[model_type][1]
    assert not any(report.values())
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    batch = tokenizer(["a", "def f(x):\n    return"], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, network(**batch).logits)
        found = loaded.generate(**batch, max_new_tokens=5)
        wanted = network.generate(**batch, max_new_tokens=5, do_sample=False, pad_token_id=50256)
    assert torch.equal(found, wanted)
    assert not caplog.records
    ends = loaded.generation_config
    assert ends.bos_token_id == ends.eos_token_id == ends.pad_token_id == 50256
    assert not ends.do_sample


@BY_TYPE
def test_the_program_on_the_card_runs(model_type, networks, tmp_path, monkeypatch, capsys):
    export(networks[model_type], tmp_path, model_type)
    facts = {"step": 1, "sha256": "0", "dtype": "float32", "parameters": 1, "lineage": None}
    text = card("CodeGenNanoMono", layout=model_type, **facts)
    (program,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert capsys.readouterr().out.startswith("def fibonacci(n):\n")


@BY_TYPE
@BY_DTYPE
def test_weights_load_as_the_type_they_are_saved_in(model_type, dtype, networks, tmp_path):
    wanted = getattr(torch, dtype)
    network = CLASSES[model_type][1](networks[model_type].config).to(wanted)
    export(network, tmp_path, model_type, dtype)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert {weight.dtype for weight in loaded.parameters()} == {wanted}
    assert loaded.config.dtype == wanted


@BY_TYPE
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_every_size_has_its_network(model_type, size):
    """No key is transformers' default by chance, and the network has the parameters stated."""
    said = hugging_face.config(size, model_type=model_type, dtype="float32", tokenizer_class="T")
    config = transformers.AutoConfig.for_model(**said)
    assert (config.n_layer, config.n_embd, config.n_head) == (
        size.layers,
        size.model_dims,
        size.heads,
    )
    assert (config.rotary_dim, config.vocab_size) == (size.rotary_dims, size.vocab_size)
    assert config.n_positions == size.context
    assert config.resid_pdrop == config.embd_pdrop == config.attn_pdrop == 0.0
    with torch.device("meta"):
        network = transformers.AutoModelForCausalLM.from_config(config)
    assert sum(weight.numel() for weight in network.parameters()) == size.parameters
    assert network.lm_head.weight is not network.transformer.wte.weight


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_what_is_written_is_accepted(size, tmp_path):
    """As written, and as transformers saves it after reading it."""
    said = hugging_face.config(size, model_type="codegen", dtype="float16", tokenizer_class="T")
    hugging_face.check_config(said, size)
    transformers.CodeGenConfig(**said).save_pretrained(tmp_path)
    hugging_face.check_config(json.loads((tmp_path / "config.json").read_text()), size)


def test_a_missing_key_means_what_it_means_to_transformers():
    """Of a network that has transformers' defaults, nothing needs to be said."""
    config = transformers.CodeGenConfig()
    size = dataclasses.replace(
        SIZE,
        layers=config.n_layer,
        model_dims=config.n_embd,
        heads=config.n_head,
        head_dims=config.n_embd // config.n_head,
        rotary_dims=config.rotary_dim,
        vocab_size=config.vocab_size,
        context=config.n_positions,
    )
    hugging_face.check_config({}, size)
    for key in ("n_inner", "activation_function", "layer_norm_epsilon", "tie_word_embeddings"):
        hugging_face.check_config({key: getattr(config, key)}, size)
    hugging_face.check_vocab_size({}, config.vocab_size)
    said = (
        r"has no vocab_size, which means 50400; wanted 51200, the rows of transformer\.wte\.weight$"
    )
    with pytest.raises(ValueError, match=said):
        hugging_face.check_vocab_size({}, 51_200)


def test_other_names_overrule_as_in_transformers():
    aliases = {
        "num_hidden_layers": SIZE.layers,
        "hidden_size": SIZE.model_dims,
        "num_attention_heads": SIZE.heads,
        "max_position_embeddings": SIZE.context,
    }
    said = aliases | {"n_embd": 4096, "n_layer": 7, "rotary_dim": 4, "vocab_size": 51_200}
    config = transformers.CodeGenConfig(**said)
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (32, 2, 4, 128)
    hugging_face.check_config(said, SIZE)
    with pytest.raises(ValueError, match=r"config\.json has hidden_size 64; wanted 32$"):
        hugging_face.check_config(said | {"hidden_size": 64}, SIZE)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_layer": 3}, "has n_layer 3; wanted 2"),
        ({"n_embd": 64}, "has n_embd 64; wanted 32"),
        ({"n_head": 8}, "has n_head 8; wanted 4"),
        ({"rotary_dim": None}, "has rotary_dim None; wanted 4"),
        ({"n_inner": 64}, "has n_inner 64; wanted None or 128"),
        (
            {"activation_function": "gelu"},
            "has activation_function 'gelu'; wanted 'gelu_new' or 'gelu_pytorch_tanh' or "
            "'gelu_python_tanh' or 'gelu_fast' or 'gelu_accurate'",
        ),
        ({"layer_norm_epsilon": 1e-6}, "has layer_norm_epsilon 1e-06; wanted 1e-05"),
        ({"tie_word_embeddings": True}, "has tie_word_embeddings True; wanted False or None"),
        (
            {"n_positions": 127},
            "has n_positions 127; wanted at least 128, the experiment's context",
        ),
        (
            {"n_positions": "a\nb"},
            r"has n_positions 'a\nb'; wanted at least 128, the experiment's ",
        ),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
            "says that the weights are quantised by bitsandbytes: load them with transformers, "
            "dequantize() and save them",
        ),
        ({"model_type": "gpt2", "n_layer": 3}, "has model_type 'gpt2'; wanted 'codegen'"),
        (
            {"model_type": "gptj"},
            "has model_type 'gptj'; wanted 'codegen': GPT-J's layout is exported, and not imported",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_network_is_refused(change, message):
    said = hugging_face.config(SIZE, model_type="codegen", dtype="float32", tokenizer_class="T")
    with pytest.raises(ValueError, match=f"^{re.escape(f'config.json {message}')}") as caught:
        hugging_face.check_config(said | change, SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"n_positions": 2048}, {"n_inner": 128}, {"attn_pdrop": 0.1}, {"tie_word_embeddings": None}],
)
def test_what_makes_no_other_network_is_accepted(change):
    said = hugging_face.config(SIZE, model_type="codegen", dtype="float32", tokenizer_class="T")
    hugging_face.check_config(said | change, SIZE)
    with torch.device("meta"):
        network = transformers.CodeGenForCausalLM(transformers.CodeGenConfig(**said | change))
    assert network.lm_head.weight is not network.transformer.wte.weight
    assert network.transformer.h[0].mlp.fc_in.out_features == 4 * SIZE.model_dims


def test_the_accepted_activations_are_the_tanh_approximation_and_no_other_is():
    x = torch.linspace(-12, 12, 10_001, dtype=torch.float64)
    wanted = torch.nn.functional.gelu(x, approximate="tanh")
    same = []
    for name in set(ACT2FN) - {"xielu"}:  # which has weights of its own
        activation = ACT2FN[name].double()
        with torch.no_grad():
            if (activation(x) - wanted).abs().max() < 1e-9:
                same.append(name)
    assert sorted(same) == sorted(hugging_face.TANH_GELUS)
