"""The files that people have, as transformers and PyTorch write them."""

import json
import pathlib
import pickle
import re
import zipfile

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from codegen_pax.floats import DTYPES, dtype
from codegen_pax.weights import hugging_face, tensor_files
from codegen_pax.weights.tensors import FileReader, Tensor, TruncatedFileError
from tests.weights.damaged_files import count_refused
from tests.weights.networks import Network, assert_holds, save_bin

NETWORK = Network()


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("most", ["5GB", "9KB"], ids=["one file", "sharded"])
def test_safetensors(kind, most, tmp_path):
    network = NETWORK.hugging_face(kind)
    network.save_pretrained(tmp_path, max_shard_size=most)
    assert (tmp_path / tensor_files.SAFETENSORS_INDEX).exists() == (most != "5GB")
    with FileReader(hugging_face.find_weights(tmp_path)) as files:
        assert {tensor.dtype for tensor in files.tensors.values()} == {dtype(kind)}
        assert_holds(files, network.state_dict())


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("shards", [1, 3])
def test_pytorch(kind, shards, tmp_path):
    network = NETWORK.hugging_face(kind)
    save_bin(network, tmp_path, shards)
    with FileReader(hugging_face.find_weights(tmp_path)) as files:
        assert_holds(files, network.state_dict())


def test_pytorch_tensors_of_any_strides(tmp_path):
    """jaxformer's own exporter saved transposed matrices; parts of larger storages are found."""
    large = torch.randn(10, 6)
    state = {
        "columns": torch.randn(7, 5).T,
        "rows": large[3:6],
        "vector": large.view(-1)[7:20],
        "permuted": torch.randn(4, 4, 4).permute(2, 0, 1),
    }
    torch.save(state, tmp_path / "x.bin")
    with FileReader(tensor_files.find_torch(tmp_path / "x.bin")) as reader:
        assert_holds(reader, state)


def test_what_is_read_of_a_mapped_file_may_be_changed(tmp_path):
    torch.save({"x": torch.zeros(4, 3)}, tmp_path / "x.bin")
    with FileReader(tensor_files.find_torch(tmp_path / "x.bin")) as reader:
        reader.read("x")[...] = 1
        assert not reader.read("x").any()


def test_constants_are_ignored(tmp_path):
    network = NETWORK.hugging_face()
    state = dict(network.state_dict())
    for layer in range(NETWORK.layers):
        state[f"transformer.h.{layer}.attn.causal_mask"] = torch.ones(
            (1, 1, 4, 4), dtype=torch.bool
        )
        state[f"transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e9)
    torch.save(state, tmp_path / "pytorch_model.bin")
    with FileReader(hugging_face.find_weights(tmp_path)) as files:
        assert_holds(files, network.state_dict())


class Attack:
    """Runs when it is unpickled."""

    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("attacked"),)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_that_a_file_names_is_run(zipped, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(
        {"transformer.wte.weight": Attack()},
        tmp_path / "pytorch_model.bin",
        _use_new_zipfile_serialization=zipped,
    )
    message = (
        r"pytorch_model\.bin cannot be loaded as weights alone \(Unsupported global"
        if zipped
        else r"was written by PyTorch before 1\.6"
    )
    with pytest.raises(ValueError, match=message) as error:
        hugging_face.find_weights(tmp_path)
    assert "weights_only" not in str(error.value)  # PyTorch says how to run it nevertheless
    (tmp_path / "pytorch_model.bin").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match=r"pytorch_model\.bin cannot be loaded as weights alone"):
        hugging_face.find_weights(tmp_path)
    assert not (tmp_path / "attacked").exists()


def make(folder, content):
    path = folder / "pytorch_model.bin"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be loaded as weights alone"),
        (b"PK\x03\x04 no archive", "cannot be loaded as weights alone"),
        ({"step": 3}, "holds 'step', a int; expected tensors alone"),
        ([torch.zeros(2)], "holds a list; expected tensors by name"),
        (torch.zeros(2), "Tensor; expected tensors by name"),
        ({"x": torch.eye(3).to_sparse()}, "x is stored as sparse_coo; expected plain numbers"),
        ({"x": torch._neg_view(torch.ones(3))}, "x is stored with another sign"),
        ({3: torch.ones(3)}, "holds a tensor called 3; expected tensors by name"),
    ],
)
def test_a_bad_file_of_pytorch(content, message, tmp_path):
    make(tmp_path, content)
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        hugging_face.find_weights(tmp_path)
    assert "\n" not in str(error.value)


def test_a_file_of_old_pytorch(tmp_path):
    save_bin(NETWORK.hugging_face(), tmp_path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"by PyTorch before 1\.6, .* save it once with a newer"):
        hugging_face.find_weights(tmp_path)


def pack_again(path, order=lambda names: names, change=None, compress=zipfile.ZIP_STORED):
    """Packs the members of a zip archive anew."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name in order([*members]):
            member = zipfile.ZipInfo(name)
            member.compress_type = compress
            if name.split("/")[1] == "data":  # at a multiple of 64, as PyTorch does it
                here = archive.fp.tell() + 30 + len(name)
                member.extra = b"\0" * (-here % 64)
            archive.writestr(member, (change or {}).get(name.split("/")[-1], members[name]))


def swap(names):
    """Exchanges the storages of two tensors that are of one size."""
    first, second = (next(n for n in names if n.endswith(f"/data/{k}")) for k in (6, 20))
    there = {first: second, second: first}
    return [there.get(name, name) for name in names]


def test_storages_in_another_order_are_found(tmp_path):
    network = NETWORK.hugging_face()
    save_bin(network, tmp_path)
    pack_again(tmp_path / "pytorch_model.bin", order=swap)
    with FileReader(hugging_face.find_weights(tmp_path)) as reader:
        assert_holds(reader, network.state_dict())


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"compress": zipfile.ZIP_DEFLATED}, "is compressed, unlike what torch.save writes"),
        ({"change": {"0": b"12345678"}}, "its tensors have other sizes than the numbers stored"),
    ],
    ids=["compressed", "too short"],
)
def test_storages_that_pytorch_would_map_wrongly_are_refused(how, message, tmp_path):
    """It does not look at how they are stored: these would be other weights, without an error."""
    save_bin(NETWORK.hugging_face(), tmp_path)
    pack_again(tmp_path / "pytorch_model.bin", **how)
    with pytest.raises(ValueError, match=re.escape(message)):
        hugging_face.find_weights(tmp_path)


@st.composite
def tensors(draw):
    names = draw(st.lists(st.from_regex(r"[a-z]\.[é\"a-z]{1,9}", fullmatch=True), unique=True))
    kinds = st.sampled_from([*DTYPES.values()])
    shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
    return {name: (draw(kinds), draw(shapes)) for name in [*names, "a"]}


@given(tensors(), st.integers(4, 400))
def test_files_are_those_that_the_library_writes(tmp_path_factory, planned, max_bytes):
    folder = tmp_path_factory.mktemp("files")
    files = tensor_files.plan_safetensors(planned, max_bytes)
    random = np.random.default_rng(0)
    arrays = {
        name: random.integers(0, 255, (*shape, kind.itemsize), np.uint8).view(kind)[..., 0]
        for name, (kind, shape) in planned.items()
    }
    with tensor_files.SafetensorsWriter(folder, files) as writer:
        for name, array in arrays.items():
            writer.write(name, len(array) // 2, array[len(array) // 2 :])
            writer.write(name, 0, array[: len(array) // 2])
    seen = []
    for file in files:
        save_file(
            {name: arrays[name] for name in file.tensors}, folder / "x", metadata={"format": "pt"}
        )
        assert (folder / file.name).read_bytes() == (folder / "x").read_bytes()
        assert file.size() == (folder / "x").stat().st_size
        seen += file.tensors
    assert sorted(seen) == sorted(planned)


def test_a_writer_takes_no_other_type(tmp_path):
    files = tensor_files.plan_safetensors({"x": (dtype("float16"), (2,))}, 4)
    with (
        tensor_files.SafetensorsWriter(tmp_path, files) as writer,
        pytest.raises(TypeError, match="x is written as float16; found rows of float32"),
    ):
        writer.write("x", 0, np.zeros(2, np.float32))


@pytest.mark.parametrize("end", [0, 5, 60, -1])
def test_a_safetensors_file_that_is_cut_short(end, tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path)
    path = tmp_path / tensor_files.SAFETENSORS
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(tensor_files.DamagedFileError, match=r"is no complete safetensors file"):
        hugging_face.find_weights(tmp_path)


def spoil_index(**changes):
    def spoil(folder):
        path = folder / tensor_files.SAFETENSORS_INDEX
        index = json.loads(path.read_text())
        index["weight_map"] |= changes
        path.write_text(json.dumps(index))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        (
            lambda folder: (folder / "model-00001-of-00002.safetensors").unlink(),
            FileNotFoundError,
            "has no model-00001-of-00002.safetensors, which model.safetensors.index.json names",
        ),
        (
            spoil_index(x="model-00001-of-00002.safetensors"),
            ValueError,
            "does not hold x, as model.safetensors.index.json says",
        ),
        (
            spoil_index(x="../elsewhere.safetensors"),
            ValueError,
            "names '../elsewhere.safetensors'; expected a file of its own folder",
        ),
        (
            spoil_index(x="./model-00001-of-00002.safetensors"),
            ValueError,
            "names './model-00001-of-00002.safetensors'; expected a file of its own folder",
        ),
        *(
            (
                lambda folder, text=text: (folder / tensor_files.SAFETENSORS_INDEX).write_text(
                    text
                ),
                ValueError,
                "is no index of tensors",
            )
            for text in ("{}", "no JSON", '{"weight_map": [1]}', '{"weight_map": {"a": 1}}', "[]")
        ),
        (
            lambda folder: (folder / tensor_files.SAFETENSORS_INDEX).unlink(),
            FileNotFoundError,
            "holds no weights: expected one of model.safetensors, pytorch_model.bin,",
        ),
    ],
)
def test_a_bad_folder(spoil, kind, message, tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path, max_shard_size="120KB")
    spoil(tmp_path)
    with pytest.raises(kind, match=re.escape(message)):
        hugging_face.find_weights(tmp_path)


def test_a_tensor_that_the_index_does_not_place_in_its_file(tmp_path):
    """transformers loads all of a file: with two of a name it would take the other one."""
    NETWORK.hugging_face().save_pretrained(tmp_path, max_shard_size="120KB")
    path = tmp_path / "model-00002-of-00002.safetensors"
    for name in ("junk", "transformer.h.0.attn.out_proj.weight"):
        save_file({**load_file(path), name: np.ones((32, 32), np.float32)}, tmp_path / "again")
        (tmp_path / "again").replace(path)
        with pytest.raises(ValueError, match=f"holds {name}, which .* does not place there"):
            hugging_face.find_weights(tmp_path)
        save_file({n: a for n, a in load_file(path).items() if n != name}, tmp_path / "again")
        (tmp_path / "again").replace(path)


def test_a_type_that_weights_cannot_have(tmp_path):
    save_file({"x": np.zeros(3, np.int64)}, tmp_path / tensor_files.SAFETENSORS)
    with pytest.raises(ValueError, match=r"x has the type I64; expected one of float32, float16"):
        FileReader(tensor_files.find_safetensors(tmp_path / tensor_files.SAFETENSORS))


def test_a_file_that_is_cut_while_it_is_read(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"0" * 8)
    whole = Tensor(path, 0, dtype("float32"), (2,))
    with pytest.raises(TruncatedFileError, match=r"x ends at byte 12, the file at 8"):
        FileReader({"x": Tensor(path, 4, dtype("float32"), (2,))})
    with FileReader({"x": whole}) as files:
        path.write_bytes(b"0" * 5)
        with pytest.raises(TruncatedFileError, match="was truncated while it was read"):
            files.read_rows("x", 0, 2, ())


def test_an_unknown_type_is_named():
    with pytest.raises(
        ValueError, match=r"no dtype of weights is called 'bfloat'; nearest: .*bfloat"
    ):
        dtype("bfloat")
    assert dtype("bfloat16") == np.dtype(ml_dtypes.bfloat16)


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("fp32 f32 float float32 FP32 torch.float32", np.float32),
        ("fp16 f16 half float16 torch.half", np.float16),
        ("bf16 bfloat16 BF16 torch.bfloat16", ml_dtypes.bfloat16),
    ],
)
def test_the_usual_names_of_a_type(names, kind):
    assert {dtype(name) for name in names.split()} == {np.dtype(kind)}


@pytest.mark.parametrize("kind", ["torch", "old torch"])
def test_any_damage_is_one_clear_error_or_none(kind, tmp_path):
    save_bin(NETWORK.hugging_face(), tmp_path, _use_new_zipfile_serialization=kind == "torch")
    path = tmp_path / "pytorch_model.bin"
    assert count_refused(path, lambda: hugging_face.find_weights(tmp_path)) > 50
