"""What follows from a declaration when one of its inputs is changed; by hand, and as properties."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.declaration import Declaration, configured, declare, find_declaration
from experiments.meshes import PLACEMENTS, parse_mesh
from experiments.phases import PHASES, Phase
from experiments.recipes import RECIPES
from experiments.report import expected_margin, report
from experiments.settings import from_environment
from experiments.sizes import SIZES

NL, MULTI, NANO = map(find_declaration, ("CodeGen350MNL", "CodeGen350MMulti", "CodeGenNanoMono"))
RUST = declare(SIZES["350M"], Phase("Rust", languages=("rust",), start="Mono", tokens=10**9))


@pytest.mark.parametrize(
    ("declaration", "steps", "warmup", "anneal"),
    [
        (NANO, 20, 2, 18),
        (NANO, 6_600, 50, 6_550),
        (NL, 1_000, 100, 900),
        (NL, 350_000, 3_000, 300_000),  # as jaxformer ran it: flat from step 303,000 on
        (NL, 320_000, 3_000, 300_000),
        (NL, 400_000, 3_000, 300_000),
        (MULTI, 400_000, 3_000, 397_000),
        (find_declaration("CodeGen2BInstruct"), 500, 50, 450),
        # The first step of a warm-up has the rate 0.
        (NL, 1, 0, 1),
        (NL, 2, 1, 1),
        (NANO, 9, 1, 8),
    ],
)
def test_a_run_of_another_length_has_a_schedule_of_its_own(declaration, steps, warmup, anneal):
    actual = replace(declaration, steps=steps)
    assert (actual.steps, actual.warmup_steps, actual.anneal_steps) == (steps, warmup, anneal)
    assert (actual.learning_rate, actual.learning_rate_end) == (
        declaration.learning_rate,
        declaration.learning_rate_end,
    )


def test_the_papers_cosine_ends_with_a_longer_training_too():
    actual = replace(NL, steps=400_000, recipe=RECIPES["paper"])
    assert actual.anneal_steps == 397_000


def test_the_floor_keeps_its_ratio_to_a_rate_that_is_declared():
    assert replace(MULTI, learning_rate=6e-5).learning_rate_end == pytest.approx(1e-5, rel=1e-12)
    assert replace(NL, learning_rate=6e-5).learning_rate_end == pytest.approx(6e-6, rel=1e-12)
    paper = replace(MULTI, learning_rate=6e-5, recipe=RECIPES["paper"])
    assert paper.learning_rate_end == pytest.approx(6e-6, rel=1e-12)


def test_a_phase_given_by_tokens_has_as_many_steps_as_they_take():
    assert RUST.steps == 1_908  # 10^9 / 524,288
    actual = replace(RUST, batch_rows=128)
    assert actual.steps == 3_815  # 10^9 / 262,144
    assert (actual.warmup_steps, actual.anneal_steps) == (381, 3_434)
    assert (actual.micro_batch_rows, actual.accumulation_steps) == (8, 16)


@pytest.mark.parametrize(
    ("rows", "mesh", "micro_batch"),
    [(256, "1x8x1", 8), (4, "1x1x1", 4), (12, "1x4x1", 4), (12, "1x1x1", 6), (7, "1x1x2", 7)],
)
def test_a_micro_batch_divides_the_batch_on_any_mesh(rows, mesh, micro_batch):
    actual = replace(NL, batch_rows=rows, mesh=parse_mesh(mesh))
    assert actual.micro_batch_rows == micro_batch


def test_another_row_of_a_table_brings_its_own_numbers():
    """Whatever was not declared is as if the new row had been there from the start."""
    other = replace(NL, size=SIZES["2B"], phase=PHASES["Mono"], steps=300)
    assert other == replace(declare(SIZES["2B"], PHASES["Mono"]), steps=300)
    assert (other.learning_rate, other.batch_rows, other.micro_batch_rows) == (0.8e-4, 512, 32)
    assert other.mesh == PLACEMENTS["2B"][0].mesh and other.start == "CodeGen2BMulti"
    assert other.name == "CodeGen2BMono"


BY_HAND = {
    "row_length": 1_024,
    "batch_rows": 64,
    "micro_batch_rows": 16,
    "steps": 500,
    "warmup_steps": 7,
    "anneal_steps": 111,
    "learning_rate": 1e-5,
    "learning_rate_end": 3e-7,
}
CHANGES = {
    "size": SIZES["6B"],
    "phase": PHASES["Instruct"],
    "recipe": RECIPES["paper"],
    "mesh": parse_mesh("1x16x1"),
    "steps": 900,
}


@pytest.mark.parametrize("name", BY_HAND)
def test_what_was_declared_stays(name):
    value = BY_HAND[name]
    declared = replace(NL, **{name: value})
    assert declared.by_hand == {name: value}
    for changed, row in CHANGES.items():
        if changed != name:
            assert replace(declared, **{changed: row}).by_hand[name] == value
    assert replace(declared, **{name: None}) == NL


@given(
    st.dictionaries(st.sampled_from([*BY_HAND]), st.just(None)).map(
        lambda actual: {name: BY_HAND[name] for name in actual}
    ),
    st.dictionaries(st.sampled_from([*CHANGES]), st.just(None)).map(
        lambda actual: {name: CHANGES[name] for name in actual}
    ),
)
def test_the_order_of_changes_does_not_matter(first, then):
    first = {name: value for name, value in first.items() if name not in then}
    at_once = replace(NL, **first, **then)
    assert replace(replace(NL, **first), **then) == at_once
    assert replace(replace(NL, **then), **first) == at_once


@given(
    st.sampled_from([NL, MULTI, RUST, NANO, find_declaration("CodeGen16BInstruct")]),
    st.integers(1, 10**6),
    st.integers(2, 2_048),
)
def test_numbers_that_follow_hold_together(declaration, steps, row_length):
    row_length = min(row_length, declaration.size.context)
    actual = replace(declaration, steps=steps, row_length=row_length)
    assert actual.warmup_steps >= 0 and actual.anneal_steps >= 1
    assert actual.warmup_steps + actual.anneal_steps <= steps
    assert 10 * actual.warmup_steps <= max(10, steps) or steps >= 180  # Nano's own 20 of 180
    shards = actual.mesh.batch_shards
    assert actual.batch_rows % actual.micro_batch_rows == actual.micro_batch_rows % shards == 0
    # As many tokens as before, but for less than one of the table's micro-batches.
    lost = declaration.batch_tokens - actual.batch_tokens
    assert 0 <= lost < declaration.micro_batch_rows * declaration.row_length + row_length


def test_shorter_rows_are_as_many_more_and_the_network_stays():
    actual = replace(NL, row_length=64)
    assert (actual.row_length, actual.size.context) == (64, 2_048)
    assert (actual.batch_rows, actual.micro_batch_rows, actual.accumulation_steps) == (
        8_192,
        256,
        32,
    )
    assert actual.batch_tokens == NL.batch_tokens == 524_288 and actual.tokens == NL.tokens
    # 6 * (20 * 12 * 1,024^2 + 51,200 * 1,024) for the weights, 12 * 20 * 64 * 1,024 for the
    # attention.
    assert actual.flops_per_token == 1_824_522_240 + 15_728_640
    assert actual.flops == actual.tokens * actual.flops_per_token
    assert "350,000 steps * 8,192 rows * 64 = 183,500,800,000." in " ".join(report(actual).split())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"row_length": 4_096},
            "row_length=4,096; expected at most 2,048, the context of size 350M",
        ),
        ({"row_length": 1}, "row_length=1; expected a whole number, at least 2"),
        ({"steps": 0}, "steps=0; expected a whole number, at least 1"),
        ({"steps": 1e3}, "steps=1000.0; expected a whole number, at least 1: write 1000"),
        ({"steps": True}, "steps=True"),
        ({"batch_rows": "8"}, "batch_rows='8'"),
        ({"warmup_steps": -1}, "warmup_steps=-1; expected a whole number, at least 0"),
        ({"steps": 20, "warmup_steps": 20}, "leaves none of 20 steps"),
        ({"learning_rate": float("nan")}, "learning_rate=nan; expected a number above 0"),
        ({"learning_rate": 0}, "learning_rate=0"),
        ({"learning_rate_end": 4e-4}, "learning_rate_end=0.0004 is above learning_rate=0.0003"),
        ({"size": "2B"}, "size='2B'; expected a row of SIZES"),
        ({"recipe": "paper"}, "recipe='paper'; expected a row of RECIPES"),
        ({"mesh": "1x8x1"}, "mesh='1x8x1'; expected a Mesh"),
        ({"start": ""}, "start=''"),
        ({"stesp": 20}, "no field of a declaration is called 'stesp'; nearest: steps"),
        ({"size": replace(SIZES["350M"], name="1B")}, "nothing for size 1B"),
    ],
)
def test_what_cannot_be_is_refused_where_it_is_declared(changes, message):
    with pytest.raises(ValueError) as error:
        replace(NL, **changes)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_size_of_ones_own_declares_what_no_table_has():
    size = replace(SIZES["350M"], name="1B", layers=24, batch_tokens={}, learning_rate={})
    with pytest.raises(ValueError, match="batch_tokens of size 1B has nothing for 'jaxformer'"):
        replace(NL, size=size, micro_batch_rows=4, learning_rate=2e-4)
    with pytest.raises(ValueError, match=r"learning_rate of size 1B .* expected learning_rate in"):
        replace(NL, size=size, batch_rows=16, micro_batch_rows=4)
    tokens = replace(size, batch_tokens={"jaxformer": 16 * 2048})
    with pytest.raises(ValueError, match=r"table of meshes .* size 1B .* expected batch_rows in"):
        replace(NL, size=tokens, micro_batch_rows=4, learning_rate=2e-4)
    actual = replace(NL, size=size, batch_rows=16, micro_batch_rows=4, learning_rate=2e-4)
    assert (actual.steps, actual.warmup_steps, actual.anneal_steps) == (350_000, 3_000, 300_000)
    # Four layers more: 12 * 1,024^2 of matrices and 7 * 1,024 of norms and biases in each.
    assert size.parameters == 356_712_448 + 4 * (12 * 1024**2 + 7 * 1024)
    with pytest.raises(ValueError, match="table of meshes has nothing for size 1B"):
        configured(actual, from_environment({}))
    assert configured(actual, from_environment({"CODEGEN_MESH": "1x2x1"})).accumulation_steps == 4


def test_a_mesh_is_judged_where_it_is_known():
    """The declared one is another machine's, where the environment names this one's."""
    small = replace(NL, batch_rows=4)
    assert configured(small, from_environment({"CODEGEN_MESH": "1x1x1"})).accumulation_steps == 1
    with pytest.raises(ValueError, match=r"mesh 1x8x1: .* 8 does not divide .* batch of 4 rows"):
        configured(small, from_environment({}))
    by_hand = replace(small, micro_batch_rows=2)
    with pytest.raises(ValueError, match=r"micro_batch_rows=2; expected a divisor of .* 4 of mesh"):
        configured(by_hand, from_environment({"CODEGEN_MESH": "1x4x1"}))


def test_a_variant_claims_no_result():
    short = replace(find_declaration("CodeGen350MMono"), steps=1_000)
    message = " ".join(report(short).split())
    assert "Source: a variant of CodeGen350MMono, with steps=1000." in message
    assert "Expected: no published result" in message and "12.76" not in message
    assert short.unverified == ()
    assert expected_margin(NANO) == 1.0 and expected_margin(replace(NANO, steps=20)) is None
    assert Declaration(NANO.declared) == NANO and not NANO.is_variant
