"""What the tables come to, against the sources, written out."""

import dataclasses

import pytest

from experiments.declaration import (
    configured,
    declarations,
    declare,
    find_declaration,
)
from experiments.meshes import parse_mesh
from experiments.phases import PHASES, Phase
from experiments.recipes import RECIPES, find_recipe
from experiments.report import report
from experiments.settings import from_environment
from experiments.sizes import SIZES

ALL = list(declarations())

# salesforce/jaxformer config/codegen_{350M,2B,6B}_nl.json: opt_gradient_accumulation_steps,
# opt_per_replica_batch, TPU v3 cores / 8, opt_lr_max, opt_lr_end.
NL_CONFIGS = {
    "350M": (32, 1, 64 // 8, 3.0e-4, 3.0e-5),
    "2B": (16, 2, 128 // 8, 1.6e-4, 1.6e-5),
    "6B": (16, 1, 256 // 8, 1.2e-4, 1.2e-5),
}


@pytest.mark.parametrize("size", NL_CONFIGS)
def test_natural_language_phase_is_the_config_that_was_run(size):
    accumulation, rows, replicas, maximum, end = NL_CONFIGS[size]
    actual = find_declaration(f"CodeGen{size}NL")
    assert actual.accumulation_steps == accumulation
    assert actual.micro_batch_rows == rows * replicas
    assert actual.batch_tokens == accumulation * rows * replicas * 2048
    assert (actual.steps, actual.warmup_steps, actual.anneal_steps) == (350_000, 3_000, 300_000)
    assert actual.learning_rate == maximum
    assert actual.learning_rate_end == pytest.approx(end, rel=1e-12)


def test_multi_350m_is_the_config_that_was_run():
    actual = find_declaration("CodeGen350MMulti")
    assert (actual.steps, actual.warmup_steps, actual.anneal_steps) == (150_000, 3_000, 147_000)
    assert (actual.learning_rate, actual.learning_rate_end) == (1.8e-4, 3.0e-5)
    assert actual.start == "CodeGen350MNL"


# Where the two recipes differ: the paper's batch of 6B is twice what was run, its cosine ends with
# the training, its floor is a tenth; the other differences are in the learner's own tests.
def test_batch_tokens_differ_for_6b():
    tokens = {
        name: declare(SIZES["6B"], PHASES["NL"], recipe).batch_tokens
        for name, recipe in RECIPES.items()
    }
    assert tokens == {"jaxformer": 1_048_576, "paper": 2_097_152}


def test_the_papers_cosine_ends_with_the_training():
    actual = declare(SIZES["350M"], PHASES["NL"], RECIPES["paper"])
    assert actual.warmup_steps + actual.anneal_steps == actual.steps == 350_000


def test_the_papers_floor_is_a_tenth():
    actual = declare(SIZES["350M"], PHASES["Multi"], RECIPES["paper"])
    assert actual.learning_rate_end == pytest.approx(1.8e-5, rel=1e-12)


def test_the_paper_has_neither_embedding_bias_nor_z_loss():
    actual = declare(SIZES["350M"], PHASES["NL"], RECIPES["paper"])
    assert actual.parameters == 356_712_448
    assert actual.recipe.z_loss == 0
    assert find_declaration("CodeGen350MNL").parameters == 356_712_448 + 1024


@pytest.mark.parametrize("declaration", ALL, ids=lambda d: d.name)
def test_every_declaration_holds_together(declaration):
    size = declaration.size
    assert size.heads * size.head_dims == size.model_dims
    assert declaration.batch_rows == declaration.accumulation_steps * declaration.micro_batch_rows
    assert declaration.micro_batch_rows % declaration.mesh.batch_shards == 0
    assert 0 < declaration.learning_rate_end < declaration.learning_rate
    assert declaration.start is None or find_declaration(declaration.start)


@pytest.mark.parametrize("declaration", ALL, ids=lambda d: d.name)
def test_every_report_says_what_a_person_asks(declaration):
    text = report(declaration)
    for heading in ("Source:", "Tokens:", "Hardware:", "mesh", "Expected:", "Command:"):
        assert heading in text
    assert f"{declaration.parameters:,} parameters" in text
    assert f"--exp=codegen.{declaration.name} " in text
    assert max(map(len, text.splitlines())) <= 96
    message = " ".join(text.split())
    result = declaration.phase.humaneval_pass_at_1.get(declaration.size.name)
    if declaration.profile.on_laptop:
        assert "Source: none: this project's own size" in message
    elif result is None:
        assert "no published run" in message and "Expected: no published result." in message
    else:
        assert (
            "Source: arXiv 2203.13474" in message
            and f"HumanEval pass@1 {result:.2f}% (pap" in message
        )


# What was read at its source: salesforce/jaxformer's configs, and Mono's table of results.
SEEN = {
    ("learning_rate", "NL"): ("350M", "2B", "6B"),
    ("learning_rate", "Multi"): ("350M",),
    ("learning_rate", "Mono"): ("350M",),
    ("steps", "NL"): ("350M", "2B", "6B"),
    ("steps", "Multi"): ("350M",),
    ("humaneval_pass_at_1", "Mono"): ("350M", "2B", "6B", "16B"),
}


@pytest.mark.parametrize("declaration", ALL, ids=lambda d: d.name)
def test_what_was_not_seen_at_its_source_is_said(declaration):
    size, phase = declaration.size, declaration.phase
    names = ("learning_rate", "steps", "humaneval_pass_at_1")
    unseen = [name for name in names if size.name not in SEEN.get((name, phase.name), ())]
    if declaration.profile.on_laptop or phase.name == "Instruct":  # our own
        unseen = []
    assert list(declaration.unverified) == unseen
    message = " ".join(report(declaration).split())
    marked = ", ".join(name.replace("_", " ") for name in unseen)
    assert (f"Unverified at its source: {marked}." in message) == bool(unseen)
    assert ("table of results, unverified" in message) == ("humaneval_pass_at_1" in unseen)


def test_mesh_and_recipe_come_from_the_environment():
    actual = configured(
        find_declaration("CodeGen350MNL"),
        from_environment({"CODEGEN_MESH": "1x16x2", "CODEGEN_RECIPE": "paper"}),
    )
    assert str(actual.mesh) == "1x16x2" and actual.recipe.name == "paper"
    assert (actual.micro_batch_rows, actual.accumulation_steps) == (16, 16)


def test_what_a_subclass_changed_is_kept_under_another_recipe():
    short = dataclasses.replace(find_declaration("CodeGen6BNL"), steps=20)
    actual = configured(short, from_environment({"CODEGEN_RECIPE": "paper"}))
    assert actual.steps == 20 and actual.batch_tokens == 2_097_152


def test_micro_batches_of_a_subclass_are_kept_on_another_mesh():
    nano = find_declaration("CodeGenNanoNL")
    short = dataclasses.replace(nano, batch_rows=16, micro_batch_rows=8)
    actual = configured(short, from_environment({"CODEGEN_MESH": "1x4x2"}))
    assert (actual.micro_batch_rows, actual.accumulation_steps) == (8, 2)


@pytest.mark.parametrize(
    ("mesh", "message"),
    [("1x64", "1x64x4"), ("1x0x4", "1x64x4"), ("1x64x5", "24 heads"), ("1x48x1", "48")],
)
def test_a_mesh_that_cannot_be_is_refused(mesh, message):
    with pytest.raises(ValueError, match="mesh") as error:
        configured(find_declaration("CodeGen16BNL"), from_environment({"CODEGEN_MESH": mesh}))
    assert message in str(error.value) and str(error.value).startswith(f"CODEGEN_MESH={mesh}: ")


def test_a_recipe_that_nobody_knows_names_the_variable():
    with pytest.raises(KeyError) as error:
        configured(find_declaration("CodeGenNanoNL"), from_environment({"CODEGEN_RECIPE": "papr"}))
    assert str(error.value) == "CODEGEN_RECIPE: no recipe is called 'papr'; nearest: paper"


@pytest.mark.parametrize(
    ("find", "typo", "nearest"),
    [
        (find_declaration, "codegen.CodeGen16BMonno", "CodeGen16BMono"),
        (find_declaration, "codegen16bmono", "CodeGen16BMono"),
        (find_recipe, "jaxfromer", "jaxformer"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(find, typo, nearest):
    with pytest.raises(KeyError) as error:
        find(typo)
    assert nearest in error.value.args[0]


def test_a_phase_needs_a_name_languages_a_start_and_tokens():
    phase = Phase("Rust", languages=("rust",), start="Mono", tokens=10**10)
    actual = declare(SIZES["2B"], phase)
    assert actual.name == "CodeGen2BRust" and actual.start == "CodeGen2BMono"
    assert actual.mixture == "codegen_rust"
    assert actual.steps == 9_537  # 10^10 / 1,048,576, rounded up
    assert declare(SIZES["Nano"], phase).mixture == "codegen_nano_rust"


@pytest.mark.parametrize(
    "wrong", [{"name": "rust"}, {"name": "C++"}, {"tokens": None}, {"steps": 10}]
)
def test_a_phase_that_makes_no_sense_is_refused(wrong):
    row = {"name": "Rust", "languages": ("rust",), "start": "Mono", "tokens": 10**10} | wrong
    with pytest.raises(ValueError, match="phase"):
        Phase(**row)


@pytest.mark.parametrize("mesh", ["1x2x3", "4X2X1"])
def test_meshes_are_read(mesh):
    assert str(parse_mesh(mesh)) == mesh.lower()
