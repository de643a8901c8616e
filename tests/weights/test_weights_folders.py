"""What people have in a folder besides a plain network: wrapped names, heads, pointers, tokens."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from codegen_pax.text.tokenizer import write_tokenizer
from codegen_pax.weights import hugging_face_files, jaxformer_files, safetensors_files
from codegen_pax.weights.tensors import Files
from tests.weights.networks import Network, assert_holds, save_bin

NETWORK = Network()


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
    with Files(hugging_face_files.find(tmp_path)) as files:
        assert_holds(files, network.state_dict())


def test_names_of_wrapped_blocks_and_without_the_networks_own_part(tmp_path):
    """As activation checkpoints and FSDP leave them inside; and as a network's body names them."""
    network = NETWORK.hugging_face()
    state = {
        name.replace(".h.1.", ".h.1._checkpoint_wrapped_module.").removeprefix("transformer."): each
        for name, each in network.state_dict().items()
    }
    torch.save(state, tmp_path / "pytorch_model.bin")
    with Files(hugging_face_files.find(tmp_path)) as files:
        assert_holds(files, network.state_dict())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["score.weight"], "holds score.weight, the head of another task: save the CodeGenFor"),
        (["v_head.summary.bias"], "holds v_head.summary.bias, the head of another task"),
        (
            ["transformer.h.0.attn.qkv_proj.lora_A.default.weight"],
            "lora_A.default.weight, part of an adapter that is not merged",
        ),
        (
            ["transformer.h.0.mlp.fc_in.SCB"],
            "fc_in.SCB, of quantised weights: load them with transformers, dequantise()",
        ),
        (["transformer.h.0.mlp.fc_in.qweight"], "fc_in.qweight, of quantised weights"),
        (["transformer.h.0.mlp.fc_in.weight.absmax"], "weight.absmax, of quantised weights"),
        (["module.transformer.ln_f.bias"], "holds transformer.ln_f.bias twice, once as "),
    ],
)
def test_what_is_more_than_a_network_is_named(names, said, tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path)
    path = tmp_path / safetensors_files.WHOLE
    save_file({**load_file(path), **dict.fromkeys(names, np.ones(3, np.float32))}, path)
    with pytest.raises(ValueError, match=re.escape(said)):
        hugging_face_files.find(tmp_path)


def test_a_network_without_its_head(tmp_path):
    NETWORK.hugging_face().transformer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"holds no lm_head\.weight: wanted a CodeGenForCausalLM"):
        hugging_face_files.find(tmp_path)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("checkpoint-500/x", "it holds a trainer's checkpoints: name one of them"),
        ("global_step500/x", "it is DeepSpeed's: run its zero_to_fp32.py first"),
        ("__0_0.distcp", "it is a distributed checkpoint of PyTorch's"),
        ("model.fp16.safetensors", "it holds a variant: give the file its plain name"),
        ("tf_model.h5", "it holds TensorFlow's weights"),
        ("codegen.Q4_0.gguf", "it holds llama.cpp's weights"),
    ],
)
def test_what_a_folder_holds_in_place_of_weights(name, said, tmp_path):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    with pytest.raises(FileNotFoundError, match=re.escape(said)):
        hugging_face_files.find(tmp_path)


POINTER = (
    f"version https://git-lfs.github.com/spec/v1\noid sha256:{'9f86d081' * 8}\nsize 797364928\n"
)


@pytest.mark.parametrize(
    ("read", "pointers", "said"),
    [
        (hugging_face_files.find, ["model.safetensors"], "model.safetensors is a pointer"),
        (hugging_face_files.find, ["pytorch_model.bin"], "pytorch_model.bin is a pointer"),
        (hugging_face_files.find, [safetensors_files.INDEX], "index.json is a pointer"),
        (hugging_face_files.read_config, ["config.json"], "config.json is a pointer"),
        (hugging_face_files.check_tokenizer, ["tokenizer.json"], "tokenizer.json is a pointer"),
        (
            hugging_face_files.check_tokenizer,
            ["vocab.json", "added_tokens.json"],
            "vocab.json and 1 more are pointers",
        ),
        (jaxformer_files.find, ["ckpt.json", "model/0.npz"], "ckpt.json and 1 more are pointers"),
    ],
)
def test_pointers_of_git_lfs(read, pointers, said, tmp_path):
    for name in pointers:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(POINTER)
    wanted = f"{said} of git-LFS, not the file itself: fetch it with `git lfs pull` in {tmp_path}"
    with pytest.raises(ValueError, match=re.escape(wanted)):
        read(tmp_path)


def test_files_of_an_index_that_are_pointers_are_counted(tmp_path):
    """As a clone without git-lfs leaves them: each small enough to have been made by hand."""
    NETWORK.hugging_face().save_pretrained(tmp_path, max_shard_size="9KB")
    shards = sorted(tmp_path.glob("model-*.safetensors"))
    for path in shards[1:]:
        path.write_text(POINTER)
    said = f"{shards[1].name} and {len(shards) - 2} more are pointers of git-LFS"
    with pytest.raises(ValueError, match=re.escape(said)):
        hugging_face_files.find(tmp_path)


def test_a_pointer_that_is_not_read_is_no_matter(tmp_path):
    """People fetch the one kind of weights that they want."""
    NETWORK.hugging_face().save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_text(POINTER)
    assert hugging_face_files.find(tmp_path)


def test_a_tokenizer_is_codegens_or_a_part_of_it(tmp_path):
    for vocabulary in ("gpt2", "codegen"):
        write_tokenizer(tmp_path, vocabulary, 64)
        hugging_face_files.check_tokenizer(tmp_path)
        (tmp_path / "tokenizer.json").unlink()
        hugging_face_files.check_tokenizer(tmp_path)
    words = json.loads((tmp_path / "vocab.json").read_text())
    words["!"], words['"'] = words['"'], words["!"]
    (tmp_path / "vocab.json").write_text(json.dumps(words))
    with pytest.raises(ValueError, match="has '!' as 1, and CodeGen's has another id: resize the"):
        hugging_face_files.check_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json is no tokenizer"):
        hugging_face_files.check_tokenizer(tmp_path)
