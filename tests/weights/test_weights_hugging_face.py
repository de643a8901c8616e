"""Folders of Hugging Face's: settings against transformers' own, names of weights, tokenizers."""

import dataclasses
import json
import re

import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file
from transformers.activations import ACT2FN
from transformers.utils import logging

from codegen_pax.text.tokenizer import end_of_text_id, write_tokenizer
from codegen_pax.weights import hugging_face, jaxformer_checkpoint, tensor_files
from codegen_pax.weights.model_card import card
from codegen_pax.weights.tensors import FileReader
from experiments.sizes import SIZES
from tests.weights.networks import Network, assert_holds, save_bin

NETWORK = Network()
SIZE = dataclasses.replace(
    SIZES["Micro"], model_dims=32, heads=4, head_dims=8, rotary_dims=4, context=128
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
    actual = {}
    for model_type, (config, network) in CLASSES.items():
        torch.manual_seed(0)
        actual[model_type] = network(config(**SIZE_IN_TRANSFORMERS)).eval()
        with torch.no_grad():
            for weight in actual[model_type].parameters():
                weight.add_(0.1 * torch.randn_like(weight))
    return actual


def export(network, folder, model_type, dtype="float32", vocabulary="codegen"):
    """Its weights as transformers writes them, and everything else as we do."""
    network.save_pretrained(folder)
    (folder / "config.json").unlink()
    (folder / "generation_config.json").unlink()
    tokenizer = write_tokenizer(folder, vocabulary, SIZE.context)
    end = end_of_text_id(vocabulary)
    config = hugging_face.config(
        SIZE,
        model_type=model_type,
        dtype=dtype,
        tokenizer_class=tokenizer,
        end_of_text_id=end,
    )
    (folder / "config.json").write_text(json.dumps(config))
    text = json.dumps(hugging_face.generation_config(end))
    (folder / "generation_config.json").write_text(text)


@BY_TYPE
@pytest.mark.parametrize("vocabulary", ["codegen", "gpt2", "codegen_2048"])
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
    end = {"codegen": 50256, "gpt2": 50256, "codegen_2048": 2009}[vocabulary]
    batch = tokenizer(["a", "def f(x):\n    return"], padding=True, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, network(**batch).logits)
        actual = loaded.generate(**batch, max_new_tokens=5)
        expected = network.generate(**batch, max_new_tokens=5, do_sample=False, pad_token_id=end)
    assert torch.equal(actual, expected)
    assert not caplog.records
    ends = loaded.generation_config
    assert ends.bos_token_id == ends.eos_token_id == ends.pad_token_id == end
    assert not ends.do_sample


@BY_TYPE
def test_the_program_on_the_card_runs(model_type, networks, tmp_path, monkeypatch, capsys):
    export(networks[model_type], tmp_path, model_type)
    facts = {"step": 1, "sha256": "0", "dtype": "float32", "num_parameters": 1, "lineage": None}
    text = card("CodeGenNanoMono", model_type=model_type, **facts)
    (program,) = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    assert capsys.readouterr().out.startswith("def fibonacci(n):\n")


@BY_TYPE
@BY_DTYPE
def test_weights_load_as_the_type_they_are_saved_in(model_type, dtype, networks, tmp_path):
    expected = getattr(torch, dtype)
    network = CLASSES[model_type][1](networks[model_type].config).to(expected)
    export(network, tmp_path, model_type, dtype)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype="auto")
    assert {weight.dtype for weight in loaded.parameters()} == {expected}
    assert loaded.config.dtype == expected


@BY_TYPE
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_every_size_has_its_network(model_type, size):
    """No key is transformers' default by chance, and the network has the parameters stated."""
    values = hugging_face.config(
        size, model_type=model_type, dtype="float32", tokenizer_class="T", end_of_text_id=50256
    )
    config = transformers.AutoConfig.for_model(**values)
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
    values = hugging_face.config(
        size, model_type="codegen", dtype="float16", tokenizer_class="T", end_of_text_id=50256
    )
    hugging_face.check_config(values, size)
    transformers.CodeGenConfig(**values).save_pretrained(tmp_path)
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
    message = r"has no vocab_size, which means 50400; expected 51200, the rows of transformer\.wte"
    with pytest.raises(ValueError, match=message):
        hugging_face.check_vocab_size({}, 51_200)


def test_other_names_overrule_as_in_transformers():
    aliases = {
        "num_hidden_layers": SIZE.layers,
        "hidden_size": SIZE.model_dims,
        "num_attention_heads": SIZE.heads,
        "max_position_embeddings": SIZE.context,
    }
    values = aliases | {"n_embd": 4096, "n_layer": 7, "rotary_dim": 4, "vocab_size": 51_200}
    config = transformers.CodeGenConfig(**values)
    assert (config.n_embd, config.n_layer, config.n_head, config.n_positions) == (32, 2, 4, 128)
    hugging_face.check_config(values, SIZE)
    with pytest.raises(ValueError, match=r"config\.json has hidden_size 64; expected 32$"):
        hugging_face.check_config(values | {"hidden_size": 64}, SIZE)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"n_layer": 3}, "has n_layer 3; expected 2"),
        ({"n_embd": 64}, "has n_embd 64; expected 32"),
        ({"n_head": 8}, "has n_head 8; expected 4"),
        ({"rotary_dim": None}, "has rotary_dim None; expected 4"),
        ({"n_inner": 64}, "has n_inner 64; expected None or 128"),
        (
            {"activation_function": "gelu"},
            "has activation_function 'gelu'; expected 'gelu_new' or 'gelu_pytorch_tanh' or "
            "'gelu_python_tanh' or 'gelu_fast' or 'gelu_accurate'",
        ),
        ({"layer_norm_epsilon": 1e-6}, "has layer_norm_epsilon 1e-06; expected 1e-05"),
        ({"tie_word_embeddings": True}, "has tie_word_embeddings True; expected False or None"),
        (
            {"n_positions": 127},
            "has n_positions 127; expected at least 128, the experiment's context",
        ),
        (
            {"n_positions": "a\nb"},
            r"has n_positions 'a\nb'; expected at least 128, the experiment's ",
        ),
        (
            {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
            "says that the weights are quantised by bitsandbytes: load them with transformers, "
            "dequantize() and save them",
        ),
        ({"model_type": "gpt2", "n_layer": 3}, "has model_type 'gpt2'; expected 'codegen'"),
        (
            {"model_type": "gptj"},
            "has model_type 'gptj'; expected 'codegen': GPT-J's layout is exported, and not",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_another_network_is_refused(change, message):
    values = hugging_face.config(
        SIZE, model_type="codegen", dtype="float32", tokenizer_class="T", end_of_text_id=50256
    )
    with pytest.raises(ValueError, match=f"^{re.escape(f'config.json {message}')}") as caught:
        hugging_face.check_config(values | change, SIZE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"n_positions": 2048}, {"n_inner": 128}, {"attn_pdrop": 0.1}, {"tie_word_embeddings": None}],
)
def test_what_makes_no_other_network_is_accepted(change):
    values = hugging_face.config(
        SIZE, model_type="codegen", dtype="float32", tokenizer_class="T", end_of_text_id=50256
    )
    hugging_face.check_config(values | change, SIZE)
    with torch.device("meta"):
        network = transformers.CodeGenForCausalLM(transformers.CodeGenConfig(**values | change))
    assert network.lm_head.weight is not network.transformer.wte.weight
    assert network.transformer.h[0].mlp.fc_in.out_features == 4 * SIZE.model_dims


def test_the_accepted_activations_are_the_tanh_approximation_and_no_other_is():
    x = torch.linspace(-12, 12, 10_001, dtype=torch.float64)
    expected = torch.nn.functional.gelu(x, approximate="tanh")
    same = []
    for name in set(ACT2FN) - {"xielu"}:  # which has weights of its own
        activation = ACT2FN[name].double()
        with torch.no_grad():
            if (activation(x) - expected).abs().max() < 1e-9:
                same.append(name)
    assert sorted(same) == sorted(hugging_face.TANH_GELUS)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "module._orig_mod.", "_fsdp_wrapped_module.", "pretrained_model."],
)
def test_names_of_a_trainers_wrapper(prefix, tmp_path):
    network = NETWORK.hugging_face()
    save_bin(network, tmp_path)
    torch.save(
        {prefix + name: tensor for name, tensor in network.state_dict().items()},
        tmp_path / "pytorch_model.bin",
    )
    with FileReader(hugging_face.find_weights(tmp_path)) as files:
        assert_holds(files, network.state_dict())


def test_names_of_wrapped_blocks_and_without_the_networks_own_part(tmp_path):
    """As activation checkpoints and FSDP leave them inside; and as a network's body names them."""
    network = NETWORK.hugging_face()
    state = {
        name.replace(".h.1.", ".h.1._checkpoint_wrapped_module.").removeprefix("transformer."): each
        for name, each in network.state_dict().items()
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    with FileReader(hugging_face.find_weights(tmp_path)) as files:
        assert_holds(files, network.state_dict())


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["score.weight"], "holds score.weight, the head of another task: save the CodeGenFor"),
        (["v_head.summary.bias"], "holds v_head.summary.bias, the head of another task"),
        (
            ["transformer.h.0.attn.qkv_proj.lora_A.default.weight"],
            "lora_A.default.weight, part of an adapter that is not merged",
        ),
        (
            ["transformer.h.0.mlp.fc_in.SCB"],
            "fc_in.SCB, of quantised weights: load them with transformers, dequantize()",
        ),
        (["transformer.h.0.mlp.fc_in.qweight"], "fc_in.qweight, of quantised weights"),
        (["transformer.h.0.mlp.fc_in.weight.absmax"], "weight.absmax, of quantised weights"),
        (["module.transformer.ln_f.bias"], "holds transformer.ln_f.bias twice, once as "),
    ],
)
def test_what_is_more_than_a_network_is_named(names, message, tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path)
    path = tmp_path / tensor_files.SAFETENSORS
    save_file({**load_file(path), **dict.fromkeys(names, np.ones(3, np.float32))}, path)
    with pytest.raises(ValueError, match=re.escape(message)):
        hugging_face.find_weights(tmp_path)


def test_a_network_without_its_head(tmp_path):
    NETWORK.hugging_face().transformer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds no lm_head\.weight: expected a CodeGenFor"):
        hugging_face.find_weights(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("checkpoint-500/x", "it holds a trainer's checkpoints: name one of them"),
        ("global_step500/x", "it is DeepSpeed's: run its zero_to_fp32.py first"),
        ("__0_0.distcp", "it is a distributed checkpoint of PyTorch's"),
        ("model.fp16.safetensors", "it holds a variant: give the file its plain name"),
        ("tf_model.h5", "it holds TensorFlow's weights"),
        ("codegen.Q4_0.gguf", "it holds llama.cpp's weights"),
    ],
)
def test_what_a_folder_holds_in_place_of_weights(name, message, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=re.escape(message)):
        hugging_face.find_weights(tmp_path)


POINTER = (
    f"version https://git-lfs.github.com/spec/v1\noid sha256:{'9f86d081' * 8}\nsize 797364928\n"
)


def check_codegen_tokenizer(folder):
    hugging_face.check_tokenizer(folder, "codegen")


@pytest.mark.parametrize(
    ("read", "pointers", "message"),
    [
        (hugging_face.find_weights, ["model.safetensors"], "model.safetensors is a pointer"),
        (hugging_face.find_weights, ["pytorch_model.bin"], "pytorch_model.bin is a pointer"),
        (hugging_face.find_weights, [tensor_files.SAFETENSORS_INDEX], "index.json is a pointer"),
        (hugging_face.read_config, ["config.json"], "config.json is a pointer"),
        (check_codegen_tokenizer, ["tokenizer.json"], "tokenizer.json is a pointer"),
        (
            check_codegen_tokenizer,
            ["vocab.json", "added_tokens.json"],
            "vocab.json and 1 more are pointers",
        ),
        (
            jaxformer_checkpoint.find_weights,
            ["ckpt.json", "model/0.npz"],
            "ckpt.json and 1 more are pointers",
        ),
    ],
)
def test_pointers_of_git_lfs(read, pointers, message, tmp_path):
    for name in pointers:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(POINTER)
    expected = (
        f"{message} of git-LFS, not the file itself: fetch it with `git lfs pull` in {tmp_path}"
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        read(tmp_path)


def test_files_of_an_index_that_are_pointers_are_counted(tmp_path):
    """As a clone without git-lfs leaves them: each small enough to have been made by hand."""
    NETWORK.hugging_face().save_pretrained(tmp_path, max_shard_size="9KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    for path in shards[1:]:
        path.write_text(POINTER)
    message = f"{shards[1].name} and {len(shards) - 2} more are pointers of git-LFS"
    with pytest.raises(ValueError, match=re.escape(message)):
        hugging_face.find_weights(tmp_path)


def test_a_pointer_that_is_not_read_is_no_matter(tmp_path):
    """People fetch the one kind of weights that they want."""
    NETWORK.hugging_face().save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_text(POINTER)
    assert hugging_face.find_weights(tmp_path)


def test_a_tokenizer_of_another_vocabulary_is_refused(tmp_path):
    write_tokenizer(tmp_path, "codegen_2048", 64)
    hugging_face.check_tokenizer(tmp_path, "codegen_2048")
    with pytest.raises(ValueError, match=r"as \d+, and CodeGen's has another id"):
        hugging_face.check_tokenizer(tmp_path, "codegen")


def test_a_tokenizer_is_codegens_or_a_part_of_it(tmp_path):
    for vocabulary in ("gpt2", "codegen"):
        write_tokenizer(tmp_path, vocabulary, 64)
        hugging_face.check_tokenizer(tmp_path, "codegen")
        (tmp_path / "tokenizer.json").unlink()
        hugging_face.check_tokenizer(tmp_path, "codegen")
    words = json.loads((tmp_path / "vocab.json").read_text())
    words["!"], words['"'] = words['"'], words["!"]
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    with pytest.raises(ValueError, match="has '!' as 1, and CodeGen's has another id: resize the"):
        hugging_face.check_tokenizer(tmp_path, "codegen")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer"):
        hugging_face.check_tokenizer(tmp_path, "codegen")
