"""PyTorch's own files, packed otherwise than `torch.save` packs them, or damaged."""

import re
import zipfile

import numpy as np
import pytest
import torch

from codegen_pax.weights import hugging_face_files, jaxformer_files, layout
from tests.weights.networks import Network, save_bin, save_jaxformer

NETWORK = Network()
FILE = "pytorch_model.bin"


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


def swapped(names):
    """The storages of two tensors that are of one size, one in the other's place."""
    first, second = (next(n for n in names if n.endswith(f"/data/{k}")) for k in (6, 20))
    there = {first: second, second: first}
    return [there.get(name, name) for name in names]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"order": swapped}, "in another order"),
        ({"compress": zipfile.ZIP_DEFLATED}, "compressed"),
        ({"change": {"byteorder": b"big"}}, "byteorder big"),
        ({"change": {"0": b"12345678"}}, "is elsewhere"),
    ],
)
def test_what_pytorch_would_look_for_elsewhere_is_refused(how, said, tmp_path):
    """It reckons the offsets from the order: these would be other weights, without an error."""
    save_bin(NETWORK.hugging_face(), tmp_path)
    pack_again(tmp_path / FILE, **how)
    wanted = rf"{FILE} is packed otherwise than torch\.save does it \(.*{said}\)"
    with pytest.raises(ValueError, match=wanted):
        hugging_face_files.find(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"x": torch.eye(3).to_sparse()}, "x is stored as sparse_coo; wanted plain numbers"),
        ({"x": torch._neg_view(torch.ones(3))}, "x is stored with another sign"),
        ({3: torch.ones(3)}, "holds a tensor called 3; wanted tensors by name"),
    ],
)
def test_tensors_that_are_no_plain_numbers(content, said, tmp_path):
    torch.save(content, tmp_path / FILE)
    with pytest.raises(ValueError, match=re.escape(said)):
        hugging_face_files.find(tmp_path)


def damaged(data: bytes, random: np.random.Generator) -> bytes:
    """Cut short, or with some bytes changed, mostly where a file says what it holds."""
    if random.random() < 0.4:
        return data[: random.integers(0, len(data))]
    changed = bytearray(data)
    for place in random.integers(0, min(len(data), 3_000), 4):
        changed[place] = random.integers(0, 256)
    for place in random.integers(0, min(len(data), 3_000), 4):
        changed[-1 - place] = random.integers(0, 256)
    return bytes(changed)


@pytest.mark.parametrize("kind", ["torch", "old torch", "jaxformer"])
def test_any_damage_is_one_clear_error_or_none(kind, tmp_path):
    if kind == "jaxformer":
        dims = NETWORK.dims(embedding_bias=True)
        shapes = {weight.jaxformer: weight.jaxformer_shape(dims) for weight in layout.WEIGHTS}
        save_jaxformer({name: np.ones(shape) for name, shape in shapes.items()}, tmp_path)
        path, find = tmp_path / "model" / "0.npz", jaxformer_files.find
    else:
        save_bin(NETWORK.hugging_face(), tmp_path, _use_new_zipfile_serialization=kind == "torch")
        path, find = tmp_path / FILE, hugging_face_files.find
    data, random, refused = path.read_bytes(), np.random.default_rng(0), 0
    for _ in range(150):
        path.write_bytes(damaged(data, random))
        try:
            find(tmp_path)
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            refused += 1
    assert refused > 50
