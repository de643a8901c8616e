"""Networks that were resized to their tokens: in, on and out again, and to other engines."""

import dataclasses
import functools
import json
import shutil
from pathlib import Path

import ctranslate2
import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
import transformers
from praxis import base_layer
from safetensors.numpy import load_file, save_file

from codegen_pax.cli.core.main import main
from codegen_pax.model import generation
from codegen_pax.runs import checksums, fingerprints, lineage
from codegen_pax.runs.checkpoint_arrays import Variables, read_variables
from codegen_pax.runs.completions import Decoding, continue_prompts
from codegen_pax.text import tokenizer
from codegen_pax.weights import embedding_table, hugging_face, importing, layouts
from codegen_pax.weights.conversion import StagingFolder
from codegen_pax.weights.tensors import FileReader
from tests.cli.wide_networks import CHECKPOINT, HERE, here, refused
from tests.model.random_models import training_batch
from tests.weights.conversions import export, import_plan, state
from tests.weights.networks import Network, logits

pytestmark = pytest.mark.usefixtures(here.__name__)

CODED = Network(layers=2, model_dims=32, heads=4, rotary_dims=4, context=256, vocab_size=51_200)
EXPERIMENT = ("--experiment", "Coded", "--module", "tests.cli.wide_experiments")
MODULE = ("--module", "tests.cli.wide_experiments")
TOKENS = 50_295
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def network():
    """transformers' own, resized to the tokens of its tokenizer."""
    actual = CODED.hugging_face()
    actual.resize_token_embeddings(TOKENS)
    return actual


@pytest.fixture(scope="module")
def source(network, tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    network.save_pretrained(folder)
    return folder


def import_(capsys, *arguments):
    """What an import prints as an object."""
    assert main(["import", "hf", *map(str, arguments), *EXPERIMENT, "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out), err


@pytest.fixture(scope="module")
def job(source, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(HERE)
        patch.setenv("CODEGEN_RECIPE", "jaxformer")
        output = tmp_path_factory.mktemp("jobs") / "job"
        assert main(["import", "hf", str(source), *EXPERIMENT, "--output", str(output)]) == 0
    return output


def experiment():
    from tests.cli import wide_experiments

    return wide_experiments.Coded()


def test_it_comes_back_byte_for_byte(source, job, tmp_path, capsys):
    (parent,) = lineage.read(job)["parents"]
    assert parent["vocabulary_rows"] == TOKENS
    assert main(["export", "hf", str(job), str(tmp_path / "x"), *MODULE, "--json"]) == 0
    out, err = capsys.readouterr()
    message = json.loads(out)
    assert "905 rows of the vocabulary, which the import added to 50,295, are left out" in err
    assert (tmp_path / "x" / WEIGHTS).read_bytes() == (source / WEIGHTS).read_bytes()
    assert json.loads((tmp_path / "x" / "config.json").read_text())["vocab_size"] == TOKENS
    size = (source / WEIGHTS).stat().st_size
    assert message["files"] == [{"name": WEIGHTS, "bytes": size}] and message["bytes"] == size
    assert (
        message["vocabulary_rows"] == TOKENS
        and message["mp_num"] == 4
        and message["dtypes"] == ["float32"]
    )
    assert lineage.read(Path(message["lineage"]).parent)["layout"] == "Hugging Face"


@pytest.fixture(scope="module")
def losses(network, job):
    """Losses and gradients in Pax of the network that was filled up, and what it was given."""
    config = experiment().network()
    z_loss = config.lm_tpl.softmax_tpl.z_loss_weight
    codegen = base_layer.instantiate(config)
    ids = np.random.default_rng(1).integers(0, TOKENS, (2, 18), dtype=np.int32)
    batch = training_batch(ids)
    with base_layer.JaxContext.new_context(hparams=base_layer.JaxContext.HParams(do_eval=True)):

        def loss(variables):
            (metrics, _), _ = codegen.apply(variables, batch, mutable=["aux_loss", "summaries"])
            return metrics.total_loss[0], metrics

        run = jax.jit(jax.value_and_grad(loss, has_aux=True))
        (_, metrics), gradients = run(read_variables(job / CHECKPOINT))
    return batch, metrics, gradients["params"]["lm"], z_loss


def test_the_loss_is_that_of_the_network_before_it_was_filled_up(network, losses):
    batch, metrics, _, z_loss = losses
    actual = torch.tensor(logits(network, batch.ids))
    assert actual.shape[-1] == TOKENS
    labels = torch.tensor(batch.labels, dtype=torch.long)
    make_expected = torch.nn.functional.cross_entropy(
        actual.reshape(-1, TOKENS), labels.reshape(-1)
    )
    assert metrics.avg_xent[0] == pytest.approx(float(make_expected), rel=1e-6)
    squares = (torch.logsumexp(actual, -1) ** 2).mean()
    assert z_loss > 0
    assert metrics.aux_loss[0] == pytest.approx(float(z_loss * squares), rel=1e-6)


def test_training_leaves_the_added_rows_as_they_are(losses):
    """No gradient, to the last bit; and no decay of a bias, nor any of a zero."""
    _, _, gradients, _ = losses
    added = (
        gradients["embedding_lookup"]["emb_var"][TOKENS:],
        gradients["softmax"]["logits_ffn"]["linear"]["w"][:, TOKENS:],
        gradients["softmax"]["logits_ffn"]["bias"]["b"][TOKENS:],
    )
    assert all(part.size and not np.any(part) for part in added)
    assert np.any(gradients["softmax"]["logits_ffn"]["bias"]["b"][:TOKENS])


@pytest.mark.parametrize(("temperature", "least", "most"), [(1e-5, 1, 1), (100.0, 490, 503)])
def test_no_draw_takes_an_added_token(temperature, least, most):
    """At the highest temperature all others are drawn: 1 draw of 57 would be of these."""
    row = np.random.default_rng(0).uniform(-20, 20, 512).astype(np.float32)
    row[-9:] = embedding_table.ADDED_BIAS
    logits = jnp.tile(row[:, np.newaxis], 4_000)
    choice = generation.Choice(temperature, top_p=1.0)
    drawn = np.asarray(generation.next_token(logits, choice, jax.random.PRNGKey(0)))
    assert drawn.max() < 503
    assert least <= len({*drawn.tolist()}) <= most


@pytest.fixture(scope="module")
def trained(job, tmp_path_factory):
    """The job after a phase with a token of its own, which never is the likeliest."""
    folder = tmp_path_factory.mktemp("trained") / "job"
    shutil.copytree(job, folder)
    Variables(folder / CHECKPOINT).stores[layouts.OUTPUT_BIAS.variable][50_300] = -3.0
    checksums.write(folder / CHECKPOINT)  # as where it is saved
    return folder


@pytest.fixture(scope="module")
def exported(job, trained, tmp_path_factory):
    """Gives the folder of an export, by its kind and its rows; each is made once."""

    @functools.cache
    def export_once(kind, rows):
        folder = tmp_path_factory.mktemp("exports") / "export"
        run = trained if rows == 51_200 else job
        assert main(["export", kind, str(run), str(folder), *MODULE]) == 0
        return folder

    return export_once


def test_added_rows_that_were_trained_since_are_exported(exported, capsys):
    folder = exported("hf", 51_200)
    assert "have been trained since: all are exported" in capsys.readouterr().out
    bias = load_file(folder / WEIGHTS)["lm_head.bias"]
    assert bias.shape == (51_200,) and bias[50_300] == -3.0 and bias[50_301] == -32768


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("rows", [50_296, 50_304, 50_432, 51_199, 51_200])
def test_any_number_of_rows_from_the_tokens_on(kind, rows, tmp_path):
    """Without the command, in other types; the added numbers are exact in all of them."""
    thin = Network(layers=1, model_dims=8, heads=4, rotary_dims=2, vocab_size=rows)
    thin.hugging_face(kind).save_pretrained(tmp_path / "source")
    dims = layouts.Dimensions(1, 8, 4, 51_200, embedding_bias=False)
    files = FileReader(hugging_face.find_weights(tmp_path / "source"))
    plan = import_plan(tmp_path / "source", dims, embedding_table.pad_vocabulary(files, 51_200))
    with StagingFolder(tmp_path / "job") as staging:
        importing.run(plan, state(dims), staging.path, lambda count: None)
        staging.commit()
    checkpoint = tmp_path / "job" / importing.CHECKPOINT
    opened = Variables(checkpoint)
    bias = opened.read(layouts.OUTPUT_BIAS.variable)
    assert (bias[rows:].astype(np.float64) == -32768).all() and len(bias) == 51_200
    assert embedding_table.added_rows_are_unchanged(opened, rows)
    assert embedding_table.added_rows_are_unchanged(opened, rows - 1) is False
    layout = layouts.hugging_face(dataclasses.replace(dims, vocab_size=rows))
    export(checkpoint, tmp_path / "back", layout, dims=dims)
    assert (tmp_path / "back" / WEIGHTS).read_bytes() == (
        tmp_path / "source" / WEIGHTS
    ).read_bytes()


def resized(source, tmp_path, **rows):
    """The folder with other numbers of rows in its tensors and its settings."""
    folder = tmp_path / "changed"
    shutil.copytree(source, folder)
    arrays = load_file(folder / WEIGHTS)
    for name, count in rows.items():
        if name in ("all", "config"):
            continue
        arrays[name] = np.resize(arrays[name], (count, *arrays[name].shape[1:]))
    if "all" in rows:
        for name in ("transformer.wte.weight", "lm_head.weight", "lm_head.bias"):
            arrays[name] = np.resize(arrays[name], (rows["all"], *arrays[name].shape[1:]))
    save_file(arrays, folder / WEIGHTS, {"format": "pt"})
    message = json.loads((folder / "config.json").read_text())
    message["vocab_size"] = rows.get("config", rows.get("all", TOKENS))
    (folder / "config.json").write_text(json.dumps(message))
    return folder


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"all": 50_257},
            "has 50,257 rows; expected 50,295 to 51,200: some tokens of the vocabulary",
        ),
        ({"all": 51_201}, "has 51,201 rows; expected 50,295 to 51,200: there is no experiment"),
        ({"lm_head.weight": 51_200}, "lm_head.weight has 51,200 rows, and transformer.wte.weight"),
        ({"lm_head.bias": 50_294}, "lm_head.bias has 50,294 rows, and transformer.wte.weight 50,2"),
        ({"config": 51_200}, "vocab_size 51200; expected 50295, the rows of transformer.wte"),
    ],
    ids=str,
)
def test_what_is_no_resized_vocabulary_is_refused(rows, message, source, tmp_path, capsys):
    folder = resized(source, tmp_path, **rows)
    assert message in refused(
        capsys, "import", "hf", folder, *EXPERIMENT, "--output", tmp_path / "x"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["changed"]


def test_tokens_of_its_own_are_refused_by_name(source, exported, tmp_path, capsys):
    """As `add_special_tokens` leaves them, in the fast tokenizer's file and in the slow one's."""
    words = transformers.AutoTokenizer.from_pretrained(exported("hf", TOKENS))
    assert len(words) == TOKENS
    words.add_special_tokens({"pad_token": "[PAD]"})
    for keep in ("tokenizer.json", "added_tokens.json"):
        folder = tmp_path / keep
        shutil.copytree(source, folder)
        words.save_pretrained(folder)
        (folder / ({"tokenizer.json", "added_tokens.json"} - {keep}).pop()).unlink(missing_ok=True)
        capsys.readouterr()
        output = tmp_path / "x"
        message = refused(capsys, "import", "hf", folder, *EXPERIMENT, "--output", output)
        assert (
            "has '[PAD]' as 50295, and CodeGen's has no such token: resize the embeddings"
            in message
        )


def adapted(network, folder):
    """An adapter of a network, saved."""
    config = peft.LoraConfig(target_modules=["qkv_proj", "fc_out"], r=2, lora_alpha=4)
    actual = peft.get_peft_model(network, config)
    with torch.no_grad():
        for weight in actual.parameters():
            if weight.requires_grad:
                weight.copy_(0.2 * torch.randn(weight.shape, generator=torch.manual_seed(3)))
    actual.peft_config["default"].base_model_name_or_path = "Salesforce/codegen-350M-mono"
    actual.save_pretrained(folder)
    return actual.merge_and_unload()


def test_an_adapter_is_merged_on_import(source, tmp_path, capsys):
    network = transformers.CodeGenForCausalLM.from_pretrained(source)
    make_expected = adapted(network, tmp_path / "adapter").state_dict()
    adapter, output = tmp_path / "adapter", tmp_path / "job"
    message = refused(capsys, "import", "hf", adapter, *EXPERIMENT, "--output", output)
    assert (
        "is an adapter of Salesforce/codegen-350M-mono: give the folder of that, and --" in message
    )
    message, progress = import_(capsys, source, "--adapter", adapter, "--output", output)
    assert "importing: " in progress and "905 that change nothing are added" in progress
    (parent,) = lineage.read(output)["parents"]
    assert (
        parent["adapter"]
        == message["source"]["adapter"]
        == {
            "directory": str(adapter),
            "base_model": "Salesforce/codegen-350M-mono",
            "revision": None,
            "files": fingerprints.hash_files(
                [adapter / "adapter_config.json", adapter / "adapter_model.safetensors"]
            ),
        }
    )
    assert parent["files"] == fingerprints.hash_files([source / WEIGHTS])
    assert message["output"] == str(output) and Path(message["lineage"]).is_file()
    assert message["source"]["mp_num"] == 4 and message["step"] == 0
    assert main(["export", "hf", str(output), str(tmp_path / "x"), *MODULE]) == 0
    actual = load_file(tmp_path / "x" / WEIGHTS)
    assert actual.keys() == make_expected.keys()
    for name, tensor in make_expected.items():
        np.testing.assert_allclose(actual[name], tensor.numpy(), rtol=1e-6, atol=1e-7)
    assert "with the adapter adapter" in (tmp_path / "x" / "README.md").read_text()
    capsys.readouterr()
    assert main(["show", str(output)]) == 0
    shown = capsys.readouterr().out
    assert "50,295 rows of the vocabulary" in shown and f"with the adapter {adapter} (" in shown


PROMPTS = [[1, 2, 3, 0, 50_000], [7] * 9, [50_284, 464]]
NEW = 24


@pytest.fixture(scope="module")
def make_expected(job):
    """Our own completions of the prompts."""
    size = experiment().declaration().size
    dims = layouts.Dimensions.of(size, embedding_bias=True)
    decoding = Decoding(new_tokens=NEW, eos_id=50_256)
    samples = continue_prompts(
        job / CHECKPOINT,
        layouts.pax_shapes(dims),
        size.head_dims,
        size.rotary_dims,
        PROMPTS,
        decoding,
    )
    actual = [sample.tolist() for (sample,) in samples]
    assert max(len({*ids}) for ids in actual) > 3
    return actual


@pytest.mark.parametrize("rows", [51_200, TOKENS])
@pytest.mark.parametrize("kind", ["hf", "gptj"])
def test_ctranslate2_gives_the_same_tokens(kind, rows, exported, make_expected, tmp_path):
    """One by one in float32; in int8 the likeliest token after most of 400 is the same.

    Random weights leave the first token little ahead of the second; chance is 1 of 51,200.
    """
    folder = exported(kind, rows)
    words = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(words) == (rows if kind == "gptj" else TOKENS)
    text = Path(__file__).read_text()
    assert words(text).input_ids == tokenizer.load("codegen").encode(text).ids
    converter = ctranslate2.converters.TransformersConverter(str(folder))
    converter.convert(str(tmp_path / "float32"))
    engine = ctranslate2.Generator(str(tmp_path / "float32"))
    prompts = [words.convert_ids_to_tokens(ids) for ids in PROMPTS]
    actual = engine.generate_batch(
        prompts, max_length=NEW, sampling_topk=1, include_prompt_in_result=False
    )
    assert [result.sequences_ids[0] for result in actual] == make_expected
    engine = ctranslate2.Generator(str(tmp_path / "float32"), compute_type="int8")
    assert engine.compute_type.startswith("int8")
    ids = np.random.default_rng(2).integers(0, len(words), (4, 100))
    likeliest = engine.forward_batch([words.convert_ids_to_tokens(row) for row in ids.tolist()])
    network = transformers.AutoModelForCausalLM.from_pretrained(folder)
    same = np.asarray(likeliest).argmax(-1) == logits(network, ids).argmax(-1)
    print(f"{kind}, {rows:,} rows: {same.sum()} of {same.size} tokens alike in int8")
    assert same.mean() > 0.5
