"""Adapters are merged as PEFT merges them: the same numbers, and nothing that it would not."""

import json
import math
import re
from fractions import Fraction

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file, save_file

from codegen_pax.floats import DTYPES
from codegen_pax.weights import adapter_config, adapters, hugging_face, importing
from codegen_pax.weights.conversion import StagingFolder
from codegen_pax.weights.tensors import FileReader
from tests.weights.conversions import import_plan, state
from tests.weights.networks import Network

NETWORK = Network()
LINEAR = ["qkv_proj", "out_proj", "fc_in", "fc_out", "lm_head"]
ADAPTER = "adapter_model.safetensors"


def train(base, folder, save="auto", steps=None, **settings):
    """Saves an adapter of a network, every one of its numbers random.

    With `steps` they are whole multiples of 1 / steps, near 1: sums of products are exact then.
    """
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": LINEAR} | settings)
    network = peft.get_peft_model(base, config)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if weight.requires_grad:
                around = 1.0 if "magnitude" in name else 0.0
                drawn = around + 0.3 * torch.randn(weight.shape, generator=generator)
                weight.copy_((drawn * steps).round() / steps if steps else drawn)
    network.save_pretrained(folder, save_embedding_layers=save)


def bases(folder, kind="float32"):
    NETWORK.hugging_face(kind).save_pretrained(folder)
    return FileReader(hugging_face.find_weights(folder))


def in_order():
    """Whether PyTorch adds up in our orders on this processor."""
    numbers = np.random.default_rng(0).standard_normal((96, 128), np.float32)
    tensor = torch.tensor(numbers)
    return np.array_equal(
        adapters.product(numbers, numbers.T), tensor @ tensor.T
    ) and np.array_equal(adapters.row_norms(numbers), torch.linalg.norm(tensor, dim=1))


EQUAL = in_order()
# Else a sum may differ in its last bits, and be rounded to the other neighbour in the base's type.
NEARLY = {"float32": 2**-20, "float16": 2**-10, "bfloat16": 2**-7}


def assert_merges(folder, adapter, kind="float32", equal=EQUAL, network=NETWORK.hugging_face):
    """Every tensor, whole and a few rows at a time, has the bits of PEFT's own merged one."""
    merged = peft.PeftModel.from_pretrained(network(kind), adapter).merge_and_unload()
    state = merged.state_dict()
    source = adapters.merge(bases(folder, kind), adapter)
    assert source.tensors.keys() == state.keys()
    changed = set()
    with source:
        for name, expected in state.items():
            actual = source.read(name)
            assert actual.dtype == DTYPES[kind] and source.tensors[name].shape == tuple(
                expected.shape
            )
            rows = [
                source.read_rows(name, i, i + 2, actual.shape[1:]) for i in range(0, len(actual), 2)
            ]
            assert np.concatenate(rows).tobytes() == actual.tobytes()
            expected = expected.float().numpy()
            actual = actual.astype(np.float32)
            if equal:
                assert actual.tobytes() == expected.tobytes(), name
            else:
                scale = NEARLY[kind] * np.abs(expected).max()
                np.testing.assert_allclose(actual, expected, NEARLY[kind], scale, err_msg=name)
                assert kind == "float32" or (actual != expected).mean() < 2**-8, name
            before = source.base.read(name).astype(np.float32)
            if not np.array_equal(actual, before):
                changed.add(name)
    return changed


def test_pytorch_adds_up_in_this_order():
    """What the comparisons below count on, bit by bit."""
    if not EQUAL:
        pytest.skip("PyTorch adds up otherwise on this processor: merges are compared less closely")


def fused(left, right):
    """Terms added one after another by fused multiply-adds, by arithmetic that rounds nothing."""
    total = Fraction(0)
    for one, other in zip(left.tolist(), right.tolist(), strict=True):
        exact = total + Fraction(one) * Fraction(other)
        near = np.float32(exact)  # by way of float64: one of the two neighbours
        around = [np.nextafter(near, np.float32(to)) for to in (-np.inf, np.inf)]
        total = min(
            (Fraction(float(each)) for each in (near, *around)), key=lambda x: abs(x - exact)
        )
    return float(total)


def test_sums_by_hand():
    """A product's by exact arithmetic; norms' one addition at a time."""
    left, right = np.random.default_rng(1).standard_normal((2, 5, 24)).astype(np.float32)
    expected = [[fused(row, column) for column in right] for row in left]
    np.testing.assert_array_equal(adapters.product(left, right.T), expected)
    for rows in (left, np.asfortranarray(left), left[:1]):
        eight = np.zeros((len(rows), 8), np.float32)
        for start in (0, 8, 16):
            eight += np.square(rows[:, start : start + 8])
        total = np.zeros(len(rows), np.float32)
        for lane in eight.T:
            total += lane
        np.testing.assert_array_equal(adapters.row_norms(rows), np.sqrt(total))
        total = right[0].copy()
        for row in rows:
            total += np.square(row)
        np.testing.assert_array_equal(adapters.add_squares(right[0], rows), total)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True, "target_modules": r".*\.(qkv_proj|fc_in)"},
        {
            "rank_pattern": {"qkv_proj": 2, r"h\.1\.mlp\.fc_in": 8},
            "alpha_pattern": {"fc_out": 32, r".*\.0\.attn\.qkv_proj": 1},
        },
        {"target_modules": ["qkv_proj"], "modules_to_save": ["wte", "lm_head", "ln_f"]},
        {"target_modules": ["fc_in", "fc_out"], "bias": "lora_only"},
        {"target_modules": ["fc_in"], "bias": "all"},
        {"target_modules": ["fc_in", "fc_out", "lm_head"], "lora_bias": True},
        {"use_dora": True},
        {"target_modules": ["wte", "qkv_proj"]},
        {"target_modules": ["wte", "out_proj"], "use_dora": True},
        {"target_modules": "all-linear", "exclude_modules": ["fc_out"]},
        {"target_modules": ["qkv_proj", "out_proj"], "layers_to_transform": [0, 2]},
        {"fan_in_fan_out": True, "init_lora_weights": "gaussian"},
        {"r": 64, "use_rslora": True, "target_modules": ["fc_out", "lm_head", "wte"]},
        {"target_modules": ["qkv_proj"], "trainable_token_indices": [95, 3, 40]},
        {
            "target_modules": ["fc_in"],
            "modules_to_save": ["ln_f"],
            "trainable_token_indices": {"transformer.wte": [7], "lm_head": [0, 95]},
        },
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
@pytest.mark.filterwarnings("ignore")
def test_an_adapter_is_merged_as_peft_merges_it(settings, tmp_path):
    train(NETWORK.hugging_face(), tmp_path / "adapter", **settings)
    assert len(assert_merges(tmp_path / "base", tmp_path / "adapter")) >= 3


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("dora", [False, True], ids=["plain", "dora"])
@pytest.mark.filterwarnings("ignore")
def test_half_precision_is_rounded_where_peft_rounds_it(kind, dora, tmp_path):
    settings = {"target_modules": [*LINEAR, "wte"], "use_dora": dora}
    train(NETWORK.hugging_face(kind), tmp_path / "adapter", **settings)
    assert_merges(tmp_path / "base", tmp_path / "adapter", kind)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.filterwarnings("ignore")
def test_on_any_processor_the_bits_are_those_of_peft(kind, tmp_path):
    """Where every order gives the same sums: products, scaling and roundings are PEFT's own."""
    settings = {"r": 3, "use_rslora": True, "target_modules": [*LINEAR, "wte"]}
    train(NETWORK.hugging_face(kind), tmp_path / "adapter", steps=16, **settings)
    assert_merges(tmp_path / "base", tmp_path / "adapter", kind, equal=True)


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_in_a_file_of_pytorch_and_in_another_type(tmp_path):
    train(NETWORK.hugging_face(), tmp_path / "adapter", modules_to_save=["ln_f"])
    path = tmp_path / "adapter" / ADAPTER
    state = {name: torch.tensor(array).half() for name, array in load_file(path).items()}
    torch.save(state, tmp_path / "adapter" / "adapter_model.bin")
    path.unlink()
    assert_merges(tmp_path / "base", tmp_path / "adapter", "bfloat16")


def resized(kind="float32"):
    network = NETWORK.hugging_face(kind)
    network.resize_token_embeddings(80)
    return network


@pytest.mark.parametrize(
    ("settings", "saved"),
    [
        ({}, 3),
        ({"modules_to_save": ["wte", "lm_head"]}, 9),  # each as it was, as it is, and once more
        ({"trainable_token_indices": [0, 79]}, 4),
        ({"target_modules": ["wte", "fc_out", "lm_head"]}, 7),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_a_vocabulary_that_the_adapter_resized(settings, saved, tmp_path):
    """PEFT wants the base resized first; the adapter holds the rows, whatever else it does."""
    adapter = tmp_path / "adapter"
    train(resized(), adapter, save=True, **{"target_modules": ["qkv_proj"]} | settings)
    assert len(re.findall(r"wte|lm_head", " ".join(load_file(adapter / ADAPTER)))) == saved
    assert_merges(tmp_path / "base", adapter, network=resized)


@pytest.mark.filterwarnings("ignore")
def test_the_folder_above_an_adapters_is_told(tmp_path):
    """As PEFT saves one with a name of its own, and a trainer its checkpoints."""
    for name in ("sft", "checkpoint-500"):
        train(NETWORK.hugging_face(), tmp_path / name, target_modules=["fc_in"])
    message = (
        "expected a folder that PEFT saved; it holds folders that have one: checkpoint-500, sft"
    )
    with pytest.raises(FileNotFoundError, match=message):
        adapters.merge(bases(tmp_path / "base"), tmp_path)


def say(**changes):
    def spoil(folder):
        path = folder / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def tensors(change):
    def spoil(folder):
        arrays = load_file(folder / ADAPTER)
        change(arrays)
        save_file(arrays, folder / ADAPTER)

    return spoil


QKV = "base_model.model.transformer.h.1.attn.qkv_proj."


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        *((say(peft_type=kind), f"is of a {kind} adapter") for kind in ("IA3", "ADALORA", "LOHA")),
        (say(peft_type="PROMPT_TUNING"), "is of a PROMPT_TUNING adapter; expected LORA"),
        (say(use_qalora=True), "has use_qalora True, a kind of LoRA that is not merged here"),
        (say(alora_invocation_tokens=[1]), "has alora_invocation_tokens [1], a kind of LoRA"),
        (say(layer_replication=[[0, 2]]), "has layer_replication [[0, 2]], a kind of LoRA"),
        (say(init_lora_weights="pissa"), "has init_lora_weights 'pissa', which changes the base's"),
        (say(r=8), "qkv_proj.lora_A.weight has shape (4, 32), expected (8, 32)"),
        (say(r="4"), "is damaged: its r is '4'"),
        (say(trainable_token_indices=[1]), "no rows of tokens of transformer.wte, which adapter_"),
        (say(trainable_token_indices=[-1]), "is damaged: a token's row is [-1]"),
        (say(rank_pattern={"(": 4}), "has a pattern of modules that is no regular"),
        *(
            (say(**setting), "a rank is no positive integer, or an alpha no finite number")
            for setting in (
                {"rank_pattern": {"x": 0}},
                {"alpha_pattern": {"x": "8"}},
                {"lora_alpha": math.nan},
                {"lora_alpha": 10**400},
            )
        ),
        (
            tensors(lambda arrays: arrays[f"{QKV}lora_B.weight"].__setitem__((5, 3), np.nan)),
            f"{ADAPTER}: {QKV}lora_B.weight holds 1 number that is not finite, the first nan at [5",
        ),
        (
            say(target_modules=["h.0.attn.qkv_proj", "h.2.attn.qkv_proj"]),
            "tensors of transformer.h.1.attn.qkv_proj, which adapter_config.json does not name",
        ),
        (say(target_modules=["qkv_proj", "fc_in"]), "no tensors of transformer.h.0.mlp.fc_in"),
        (
            tensors(lambda arrays: arrays.pop(f"{QKV}lora_B.weight")),
            "transformer.h.1.attn.qkv_proj has no lora_B.weight",
        ),
        (
            tensors(lambda arrays: arrays.update({"score.weight": np.ones(3, np.float32)})),
            "score.weight belongs to no tensor of the base",
        ),
        (
            # As DeepSpeed saves what other processes hold.
            tensors(lambda a: a.update({f"{QKV}lora_A.weight": np.ones((0,), np.float32)})),
            "lora_A.weight has shape (0,), expected (4, 32)",
        ),
        (
            lambda folder: (folder / "adapter_config.json").write_text("{"),
            "adapter_config.json: expected JSON",
        ),
        (lambda folder: (folder / ADAPTER).unlink(), "holds no adapter_model.safetensors or"),
        (
            lambda folder: (folder / ADAPTER).write_text(
                f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n"
            ),
            f"{ADAPTER} is a pointer of git-LFS, not the file itself: fetch it with `git lfs pull`",
        ),
    ],
    ids=lambda value: re.sub(r"\W+", "-", value)[:40] if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore")
def test_what_is_no_such_adapter_is_refused(spoil, message, tmp_path):
    train(NETWORK.hugging_face(), tmp_path / "adapter", target_modules=["qkv_proj"])
    spoil(tmp_path / "adapter")
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as error:
        adapters.merge(bases(tmp_path / "base"), tmp_path / "adapter")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([1, 2, 3], "delta has shape (2, 32), expected (3, 32)"),
        ([1, 96], "delta has row 96, and the base 96 rows"),
        (None, "rows of tokens of transformer.wte, which adapter_config.json does not name"),
        ({"h": [1, 2]}, "rows of tokens of transformer.wte, which adapter_config.json does not"),
        ({"wte": 1}, "is damaged: a token's row is 1"),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")
def test_rows_of_tokens_that_are_no_such_rows(indices, message, tmp_path):
    tokens = {"target_modules": ["fc_in"], "trainable_token_indices": [1, 2]}
    train(NETWORK.hugging_face(), tmp_path / "adapter", **tokens)
    say(trainable_token_indices=indices)(tmp_path / "adapter")
    with pytest.raises(ValueError, match=re.escape(message)):
        adapters.merge(bases(tmp_path / "base"), tmp_path / "adapter")


def test_a_merged_number_too_large_for_the_base_is_told(tmp_path, recwarn):
    """float16 ends at 65504; the base and the adapter are sound."""
    train(NETWORK.hugging_face("float16"), tmp_path / "adapter", target_modules=["fc_in"])
    arrays = load_file(tmp_path / "adapter" / ADAPTER)
    arrays = {name: 1_000 * array for name, array in arrays.items()}
    save_file(arrays, tmp_path / "adapter" / ADAPTER)
    source = adapters.merge(bases(tmp_path / "base", "float16"), tmp_path / "adapter")
    plan = import_plan(tmp_path / "base", NETWORK.dims(), source)
    recwarn.clear()
    message = (
        rf"fc_in.weight with the adapter {tmp_path / 'adapter'} holds [\d,]+ numbers that are not"
    )
    with StagingFolder(tmp_path / "job") as staging, pytest.raises(ValueError, match=message):
        importing.run(plan, state(NETWORK.dims()), staging.path, lambda count: None)
    assert not recwarn.list


def test_an_adapter_of_a_smaller_network(tmp_path):
    train(Network(model_dims=16).hugging_face(), tmp_path / "adapter", target_modules=["fc_in"])
    with pytest.raises(ValueError, match=r"lora_A.weight has shape \(4, 16\), expected \(4, 32\)"):
        adapters.merge(bases(tmp_path / "base"), tmp_path / "adapter")


def test_the_scaling_by_hand(tmp_path):
    """alpha / r and alpha / sqrt(r), of the rank that a pattern gives."""
    train(
        NETWORK.hugging_face(),
        tmp_path,
        target_modules=["fc_in"],
        rank_pattern={"h.1.mlp.fc_in": 16},
    )
    config = adapter_config.read(tmp_path)
    assert config.scaling("transformer.h.0.mlp.fc_in") == 6 / 4
    assert config.scaling("transformer.h.1.mlp.fc_in") == 6 / 16
    say(use_rslora=True)(tmp_path)
    actual = adapter_config.read(tmp_path).scaling("transformer.h.1.mlp.fc_in")
    assert math.isclose(actual, 6 / 4)
