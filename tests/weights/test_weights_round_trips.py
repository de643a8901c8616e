"""From Hugging Face to Pax and back, byte for byte, and nothing that is no network."""

import json
import re
import resource
import signal

import jax
import numpy as np
import pytest
import tensorstore
import torch
from safetensors.numpy import load_file, save_file

from codegen_pax.floats import DTYPES, dtype
from codegen_pax.runs import rechunking
from codegen_pax.runs.checkpoint_arrays import Variables, read_variables
from codegen_pax.weights import (
    embedding_table,
    exporting,
    hugging_face,
    importing,
    jaxformer_checkpoint,
    layouts,
    slices,
    tensor_files,
)
from codegen_pax.weights.conversion import StagingFolder
from codegen_pax.weights.tensors import FileReader
from tests.weights import in_memory
from tests.weights.conversions import export, import_hugging_face, import_plan, state, stored
from tests.weights.networks import Network, logits, save_bin, save_jaxformer

NETWORK = Network()
WITH_BIAS = NETWORK.dims(embedding_bias=True)
DIMS = NETWORK.dims()


@pytest.fixture(autouse=True)
def small_slices(monkeypatch):
    """So that small networks are cut, and in the middle of a group's heads."""
    monkeypatch.setattr(slices, "SLICE_BYTES", 600)
    monkeypatch.setattr(rechunking, "PIECE_BYTES", 600)


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("most", ["5GB", "9KB"], ids=["one file", "sharded"])
@pytest.mark.parametrize("dims", [DIMS, WITH_BIAS], ids=["without bias", "with bias"])
def test_hugging_face_to_pax_and_back(kind, most, dims, tmp_path, monkeypatch):
    """The files themselves are the same, byte for byte."""
    monkeypatch.setattr(tensor_files, "SHARD_BYTES", {"5GB": 5 * 10**9, "9KB": 9_000}[most])
    source, result = tmp_path / "source", tmp_path / "result"
    NETWORK.hugging_face(kind).save_pretrained(source, max_shard_size=most)
    checkpoint = import_hugging_face(source, tmp_path / "job", dims)
    assert set(Variables(checkpoint).dtypes().values()) == {dtype(kind)}
    plan = export(checkpoint, result, layouts.hugging_face(dims), keep_parts=True)
    names = {path.name for path in source.glob("*.safetensors")}
    assert names == {path.name for path in result.rglob("*.safetensors")}
    for name in names:
        assert (source / name).read_bytes() == (result / name).read_bytes()
    if len(names) > 1:
        index = json.loads((source / tensor_files.SAFETENSORS_INDEX).read_text())
        assert tensor_files.safetensors_index(plan.weight_files) == index


@pytest.mark.parametrize("kind", DTYPES)
def test_pax_to_hugging_face_and_back_with_a_bias(kind, tmp_path):
    """A trained bias is folded in, and taken out again exactly."""
    NETWORK.hugging_face(kind).save_pretrained(tmp_path / "source")
    checkpoint = import_hugging_face(tmp_path / "source", tmp_path / "job", WITH_BIAS)
    train_bias(checkpoint)
    before = stored(checkpoint)
    export(checkpoint, tmp_path / "there", layouts.hugging_face(WITH_BIAS), keep_parts=True)
    table = load(tmp_path / "there")["transformer.wte.weight"]
    parts = Variables(checkpoint)
    rows, bias = (
        parts.read(weight.variable) for weight in (layouts.EMBEDDING, layouts.EMBEDDING_BIAS)
    )
    expected = (rows.astype(np.float32) + bias.astype(np.float32)).astype(rows.dtype)
    assert table.tobytes() == expected.tobytes() != rows.tobytes()
    back = import_hugging_face(tmp_path / "there", tmp_path / "back", WITH_BIAS)
    assert stored(back) == before
    # Trained on elsewhere, the table is another: the parts are not those of these weights.
    path = tmp_path / "there" / tensor_files.SAFETENSORS
    arrays = load_file(path)
    arrays["transformer.wte.weight"][-1, -1] += 1
    save_file(arrays, path, {"format": "pt"})
    again = Variables(import_hugging_face(tmp_path / "there", tmp_path / "again", WITH_BIAS))
    assert not again.read(layouts.EMBEDDING_BIAS.variable).any()
    actual = again.read(layouts.EMBEDDING.variable)
    assert actual.tobytes() == arrays["transformer.wte.weight"].tobytes()


def train_bias(checkpoint) -> None:
    """Gives a checkpoint a bias that is not zero."""
    store = Variables(checkpoint).stores[layouts.EMBEDDING_BIAS.variable]
    values = np.linspace(-1, 1, store.shape[0]).astype(store.dtype.numpy_dtype)
    store.write(values).result()


def load(folder) -> dict[str, np.ndarray]:
    import ml_dtypes  # noqa: F401  (safetensors gives bfloat16 once numpy knows it)

    return load_file(folder / tensor_files.SAFETENSORS)


def test_a_bias_is_not_kept_apart_where_it_would_not_be_exact(tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path / "source")
    checkpoint = import_hugging_face(tmp_path / "source", tmp_path / "job", WITH_BIAS)
    train_bias(checkpoint)
    layout = layouts.hugging_face(WITH_BIAS)
    export(checkpoint, tmp_path / "half", layout, keep_parts=True, dtype=dtype("float16"))
    assert not (tmp_path / "half" / embedding_table.PARTS_FILE).exists()


@pytest.mark.parametrize("make", [layouts.hugging_face, layouts.gptj])
@pytest.mark.parametrize("kind", DTYPES)
def test_transformers_gets_the_same_logits(make, kind, tmp_path):
    """From weights in PyTorch's own files, as both of its networks; exactly, in CodeGen's."""
    network = NETWORK.hugging_face(kind)
    (tmp_path / "source").mkdir()
    save_bin(network, tmp_path / "source")
    checkpoint = import_hugging_face(tmp_path / "source", tmp_path / "job", DIMS)
    export(checkpoint, tmp_path / "result", make(DIMS))
    model = {layouts.hugging_face: "CodeGen", layouts.gptj: "GPTJ"}[make]
    actual = NETWORK.hugging_face(model=model, seed=1)
    weights = {
        name: torch.tensor(a.astype(np.float32)) for name, a in load(tmp_path / "result").items()
    }
    actual.load_state_dict(weights)
    ids = np.random.default_rng(0).integers(0, NETWORK.vocab_size, (2, 17))
    expected = logits(network.float(), ids)
    np.testing.assert_allclose(logits(actual, ids), expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", DTYPES)
def test_a_cast_is_numpys_own(kind, tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path / "source")
    checkpoint = import_hugging_face(tmp_path / "source", tmp_path / "job", DIMS)
    export(checkpoint, tmp_path / "result", layouts.hugging_face(DIMS), dtype=dtype(kind))
    actual = load(tmp_path / "result")
    for name, array in load(tmp_path / "source").items():
        assert actual[name].tobytes() == array.astype(dtype(kind)).tobytes()


def test_a_number_too_large_for_the_type_is_refused(tmp_path):
    network = NETWORK.hugging_face()
    with torch.no_grad():
        network.lm_head.bias[3] = 70_000
    network.save_pretrained(tmp_path / "source")
    checkpoint = import_hugging_face(tmp_path / "source", tmp_path / "job", DIMS)
    message = "lm_head.bias holds 70000, too large for float16: export it as float32 or bfloat16"
    with pytest.raises(ValueError, match=re.escape(message)):
        export(checkpoint, tmp_path / "result", layouts.hugging_face(DIMS), dtype=dtype("float16"))
    assert not (tmp_path / "result").exists()
    export(checkpoint, tmp_path / "result", layouts.hugging_face(DIMS), dtype=dtype("bfloat16"))


@pytest.mark.parametrize("mp_num", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["float32", "bfloat16"])
@pytest.mark.parametrize("dims", [DIMS, WITH_BIAS], ids=["folded", "kept"])
def test_jaxformer(mp_num, kind, dims, tmp_path):
    """Against the whole conversion in memory, which is held against jaxformer's own losses."""
    random = np.random.default_rng(0)
    arrays = {
        weight.jaxformer: random.standard_normal(weight.jaxformer_shape(DIMS), np.float32)
        for weight in layouts.WEIGHTS
    }
    arrays = {name: array.astype(dtype(kind)) for name, array in arrays.items()}
    save_jaxformer(arrays, tmp_path / "7")
    files = FileReader(jaxformer_checkpoint.find_weights(tmp_path / "7")[0])
    plan = importing.make_plan(tmp_path / "7", files, layouts.jaxformer(dims, mp_num=mp_num))
    with StagingFolder(tmp_path / "job") as staging:
        importing.run(plan, state(dims), staging.path, lambda count: None)
        staging.commit()
    actual = read_variables(tmp_path / "job" / importing.CHECKPOINT)["params"]["lm"]
    expected = in_memory.from_jaxformer(
        {name: array.astype(np.float32) for name, array in arrays.items()}, dims, mp_num=mp_num
    )
    if kind == "bfloat16":
        table = expected["embedding_lookup"]["emb_var"]
        expected["embedding_lookup"]["emb_var"] = table.astype(dtype(kind)).astype(np.float32)
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def rechunk(checkpoint, chunks) -> None:
    """Stores the variables as stock Pax would on some mesh: all layers together, compressed."""
    for directory in sorted((checkpoint / "state").glob("mdl_vars.*")):
        spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(directory)}}
        store = tensorstore.open(spec, open=True).result()
        values = store.read().result()
        shape = [max(1, size // chunks) if axis else size for axis, size in enumerate(store.shape)]
        spec["metadata"] = {"shape": store.shape, "chunks": shape, "compressor": {"id": "zstd"}}
        spec |= {"dtype": store.dtype.name}
        tensorstore.open(spec, create=True, delete_existing=True).result().write(values).result()


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_checkpoint_as_pax_stores_it(chunks, tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path / "source")
    checkpoint = import_hugging_face(tmp_path / "source", tmp_path / "job", DIMS)
    shapes = slices.chunk_shapes(slices.make_slices(layouts.hugging_face(DIMS)), DIMS)
    opened = Variables(checkpoint)
    assert not any(opened.needs_rechunking(weight.variable, cut) for weight, cut in shapes.items())
    rechunk(checkpoint, chunks)
    opened = Variables(checkpoint)
    needing = {
        weight for weight, cut in shapes.items() if opened.needs_rechunking(weight.variable, cut)
    }
    assert needing >= {weight for weight in shapes if weight.stacked} | {layouts.EMBEDDING}
    plan = exporting.make_plan(Variables(checkpoint), DIMS, layouts.hugging_face(DIMS))
    assert plan.scratch_bytes == 4 * 3 * 4 * 32 * 32  # one of the feed-forward's matrices
    values = {name: opened.read(name) for name in opened.stores}
    for weight in needing:
        opened.rechunk(weight.variable, shapes[weight], tmp_path / weight.variable)
        assert not opened.needs_rechunking(weight.variable, shapes[weight])
        np.testing.assert_array_equal(opened.read(weight.variable), values[weight.variable])
    export(checkpoint, tmp_path / "result", layouts.hugging_face(DIMS))
    name = tensor_files.SAFETENSORS
    assert (tmp_path / "source" / name).read_bytes() == (tmp_path / "result" / name).read_bytes()
    assert [path.name for path in (tmp_path / "result").iterdir()] == [name]


def change(name, **how):
    """What spoils an array of a state dict: removes it, adds it, or gives it another shape."""

    def spoil(arrays):
        if "new" in how:
            arrays[name] = how["new"]
        else:
            del arrays[name]

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            change("transformer.h.1.ln_1.weight"),
            "Hugging Face weights: 1 of 29 missing, the first 'transformer.h.1.ln_1.weight'",
        ),
        (
            change("transformer.h.3.ln_1.bias", new=np.zeros(32, np.float32)),
            "1 unknown, the first 'transformer.h.3.ln_1.bias'; the nearest expected name is",
        ),
        (
            change("lm_head.weight", new=np.zeros((95, 32), np.float32)),
            "lm_head.weight has shape (95, 32), expected (96, 32)",
        ),
        (
            change("transformer.h.1.ln_1.bias", new=np.zeros(32, np.float16)),
            "transformer.h.1.ln_1.bias has the type float16; expected float32, as "
            "transformer.h.0.ln_1.bias: Pax keeps all layers in one array",
        ),
    ],
    ids=["missing", "unknown", "misshaped", "of two types"],
)
def test_what_is_no_such_network_is_refused_before_anything_is_written(spoil, message, tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path / "source")
    path = tmp_path / "source" / tensor_files.SAFETENSORS
    arrays = load_file(path)
    spoil(arrays)
    save_file(arrays, path)
    with pytest.raises(ValueError, match=re.escape(message)):
        import_plan(tmp_path / "source", DIMS)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_checkpoint_of_numbers_that_are_no_weights(tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path / "source")
    checkpoint = import_hugging_face(tmp_path / "source", tmp_path / "job", DIMS)
    name = layouts.EMBEDDING.variable
    path = checkpoint / "state" / f"mdl_vars.{name}"
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": str(path)}, "dtype": "float64"}
    spec["metadata"] = {"shape": [96, 32]}
    store = tensorstore.open(spec, create=True, delete_existing=True).result()
    store.write(np.zeros((96, 32))).result()
    with pytest.raises(ValueError, match=f"{name} has the type float64; expected float32, float16"):
        exporting.make_plan(Variables(checkpoint), DIMS, layouts.hugging_face(DIMS))
    (path / ".zarray").write_text("{")
    with pytest.raises(ValueError, match=f"{name}/.zarray is damaged"):
        Variables(checkpoint)


def test_a_write_that_fails_is_reported(tmp_path):
    """Where no more than so many bytes of a file may be written, as where a disk is full."""
    NETWORK.hugging_face().save_pretrained(tmp_path / "source")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (511, hard))  # a chunk has 512
    try:
        with pytest.raises(OSError):
            import_hugging_face(tmp_path / "source", tmp_path / "job", DIMS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert not (tmp_path / "job").exists()


def test_another_network_than_the_experiments(tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path / "source")
    plan = import_plan(tmp_path / "source", DIMS)
    with pytest.raises(ValueError, match=r"1 of 14 missing, the first 'mdl_vars\.params\.lm\.emb"):
        importing.check_state(plan, state(WITH_BIAS))


def test_a_checkpoint_of_another_network(tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path / "source")
    checkpoint = import_hugging_face(tmp_path / "source", tmp_path / "job", DIMS)
    with pytest.raises(ValueError, match=r"Pax weights: 1 of 14 missing, the first 'params\.lm"):
        exporting.make_plan(Variables(checkpoint), WITH_BIAS, layouts.hugging_face(WITH_BIAS))


def test_the_index_of_a_folder_is_read(tmp_path):
    NETWORK.hugging_face().save_pretrained(tmp_path, max_shard_size="9KB")
    assert set(hugging_face.find_weights(tmp_path)) == set(layouts.hugging_face(DIMS).shapes)
