"""Decoding one token at a time: against the full forward pass and against transformers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from praxis import base_layer, decoder_hparams, decoder_utils, pax_fiddle, py_utils

from codegen_pax import model
from codegen_pax.model import generation, unstacked
from tests.model.random_models import (
    Shape,
    reference,
    reference_logits,
    relative_difference,
    variables,
)

SHAPE = Shape(3, 4, 12, 8, vocab_size=61, batch=5, length=16)
PROMPT_LENGTHS = np.array([9, 1, 4, 8, 5], np.int32)
PROMPT, NEW = 9, 7
# A token that some rows reach and others do not, and one that is none.
EOS, NO_EOS = 40, SHAPE.vocab_size
CACHE = ["decoder_cache", "summaries"]


@pytest.fixture(scope="module")
def network():
    """transformers' network."""
    return reference(SHAPE, seed=5)


@pytest.fixture(scope="module")
def weights(network):
    """The same weights in Pax."""
    return variables(network, SHAPE)


@pytest.fixture(scope="module")
def full_logits(weights):
    """Logits [B, T, V] of the full forward pass over left-aligned rows."""
    ids = jnp.asarray(SHAPE.random_ids())
    lm = base_layer.instantiate(SHAPE.language_model())
    return np.asarray(jax.jit(lm.apply)({"params": weights}, ids, jnp.zeros(ids.shape)).logits)


def stepped_logits(weights, prefill: dict, tokens: np.ndarray, positions: np.ndarray | None):
    """Logits of one forward pass, then of `tokens` [B, M] put in one by one, M columns on.

    Args:
        weights: of the language model.
        prefill: arguments of the forward pass that starts the cache.
        tokens: [B, M].
        positions: [B, M], the place of each token in its document; None: the step's own number.
    """
    lm = base_layer.instantiate(SHAPE.language_model())

    def start(lm):
        logits = lm(**prefill).logits
        lm.transform_decode_state(decoder_utils.pad_state_fn(tokens.shape[1]))
        return logits

    @jax.jit
    def step(cache, ids, position):
        out, cache = lm.apply(
            {"params": weights, **cache},
            ids,
            segment_pos=position,
            method=lm.extend_step,
            mutable=CACHE,
        )
        return out.logits, cache

    @jax.jit
    def prefilled(weights):
        return lm.apply({"params": weights}, method=start, mutable=CACHE)

    first, cache = prefilled(weights)
    following = []
    for i in range(tokens.shape[1]):
        position = None if positions is None else jnp.asarray(positions[:, i])
        logits, cache = step(cache, jnp.asarray(tokens[:, i]), position)
        following.append(logits)
    return np.asarray(first), np.stack(following, axis=1)


def test_right_aligned_steps_equal_the_full_pass(weights, full_logits):
    """Prompts of 1 to 9 tokens end in one column; the next 7 tokens go in one by one."""
    ids = SHAPE.random_ids()
    columns = np.arange(PROMPT) - (PROMPT - PROMPT_LENGTHS[:, np.newaxis])
    is_real = columns >= 0
    prompts = np.where(is_real, np.take_along_axis(ids, np.maximum(columns, 0), axis=1), 7)
    positions = PROMPT_LENGTHS[:, np.newaxis] + np.arange(NEW)
    prefill = {
        "inputs": jnp.asarray(prompts),
        "paddings": jnp.asarray(~is_real, jnp.float32),
        "segment_ids": jnp.asarray(is_real, jnp.int32),
        "segment_pos": jnp.maximum(columns, 0),
        "start_time_step": PROMPT,
    }
    tokens = np.take_along_axis(ids, positions, axis=1)
    first, following = stepped_logits(weights, prefill, tokens, positions)
    for i, n in enumerate(PROMPT_LENGTHS):
        make_expected = full_logits[i, : n + NEW]
        assert relative_difference(first[i, PROMPT - n :], make_expected[:n]) < 1e-5
        assert relative_difference(following[i], make_expected[n:]) < 1e-5


def test_left_aligned_steps_equal_the_full_pass(weights, full_logits):
    """All rows start in column 0 and go in one by one; what follows a shorter row is noise."""
    lengths = PROMPT_LENGTHS + NEW
    tokens = np.where(np.arange(SHAPE.length) < lengths[:, np.newaxis], SHAPE.random_ids(), 3)
    # The first token overwrites the one column that the forward pass makes.
    nothing = jnp.zeros((SHAPE.batch, 1), jnp.int32)
    prefill = {"inputs": nothing, "paddings": 1.0 + nothing, "start_time_step": 0}
    _, following = stepped_logits(weights, prefill, tokens, positions=None)
    for i, n in enumerate(lengths):
        assert relative_difference(following[i, :n], full_logits[i, :n]) < 1e-5


def prompts() -> np.ndarray:
    """Prompts [B, P], each at the left; id 0 ('!') at the start, the end and inside of some."""
    ids = SHAPE.random_ids(seed=5)[:, :PROMPT]
    ids[0, :] = [5, 0, 0, 17, 0, 2, 9, 0, 0]
    ids[1, 0] = 0
    ids[2, 0] = 0
    return np.where(np.arange(PROMPT) < PROMPT_LENGTHS[:, np.newaxis], ids, 0)


def decode(decoder, weights, **fields):
    """Returns what `decode` gives, as numpy arrays, and the model."""
    (out,), codegen = decode_each([0], decoder, weights, **fields)
    return out, codegen


def decode_each(seeds, decoder, weights, **fields):
    """Returns what `decode` gives with each of the seeds, by one program, and the model."""
    config = pax_fiddle.Config(
        model.CodeGenModel, name="model", lm_tpl=SHAPE.language_model(), decoder_tpl=decoder
    )
    codegen = base_layer.instantiate(config)
    batch = py_utils.NestedMap(
        ids=prompts(),
        paddings=(np.arange(PROMPT) >= PROMPT_LENGTHS[:, np.newaxis]).astype(np.float32),
        weights=np.ones((SHAPE.batch, PROMPT), np.float32),
        prefix_lengths=PROMPT_LENGTHS,
        **fields,
    )

    @jax.jit
    def run(weights, key, batch):
        context = base_layer.JaxContext.HParams(do_eval=True)
        with base_layer.JaxContext.new_context(hparams=context):
            (_, out, _), _ = codegen.apply(
                {"params": {"lm": weights}},
                batch,
                method=codegen.decode,
                mutable=[*CACHE, "non_trainable"],
                rngs={"random": key},
            )
        return out

    outs = [run(weights, jax.random.PRNGKey(seed), batch) for seed in seeds]
    return jax.tree.map(np.asarray, outs), codegen


def continuation(network, prompt: np.ndarray) -> list[int]:
    """What transformers generates after one prompt, alone and without padding."""
    with torch.no_grad():
        out = network.generate(
            torch.tensor(prompt[np.newaxis], dtype=torch.long),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=NEW,
            do_sample=False,
            eos_token_id=EOS,
            pad_token_id=EOS,
        )
    return out[0, len(prompt) :].tolist()


@pytest.fixture(scope="module")
def make_expected(network):
    """transformers' continuation of each prompt."""
    return [
        continuation(network, ids[:n]) for ids, n in zip(prompts(), PROMPT_LENGTHS, strict=True)
    ]


def nearly_greedy():
    """Sampling whose nucleus holds the likeliest token alone: as certain as greedy decoding."""
    return model.sample_decoder(
        prompt_length=PROMPT,
        max_new_tokens=NEW,
        eos_id=EOS,
        temperature=0.7,
        top_p=1e-6,
        num_samples=3,
    )


def left_aligned():
    """Greedy, with the prompts put in token by token: a short row goes on while others are read."""
    return decoder_hparams.GreedyDecoderHParams(
        seqlen=PROMPT + NEW, max_decode_steps=PROMPT + NEW, eos_id=EOS
    )


def praxis_greedy():
    """Greedy, by praxis' own loop over the stacked layers."""
    return decoder_hparams.GreedyDecoderHParams(
        seqlen=PROMPT + NEW, max_decode_steps=NEW, eos_id=EOS, fprop_for_prefix=True
    )


@pytest.fixture(scope="module")
def greedy(weights):
    """Every prompt continued by the likeliest tokens, and the model."""
    decoder = model.greedy_decoder(prompt_length=PROMPT, max_new_tokens=NEW, eos_id=EOS)
    return decode(decoder, weights)


@pytest.fixture(scope="module")
def by_praxis(weights):
    """The same by praxis' loop."""
    return decode(praxis_greedy(), weights)


@pytest.mark.parametrize("kind", ["greedy", "praxis", "left-aligned", "sampled"])
def test_tokens_equal_transformers(kind, weights, greedy, by_praxis, make_expected):
    # The comparison is worth something: rows end differently, say different things, and '!' too.
    assert len({len(row) for row in make_expected}) >= 3
    assert len({token for row in make_expected for token in row}) >= 8
    assert any(0 in row for row in make_expected)
    decoders = {"left-aligned": left_aligned, "sampled": nearly_greedy}
    done = {"greedy": greedy, "praxis": by_praxis}
    out, codegen = done.get(kind) or decode(decoders[kind](), weights)
    _, pairs, _ = codegen.process_decode_out(None, out)
    assert len(pairs) == SHAPE.batch
    for (_, row), ids, n, tokens in zip(
        pairs, prompts(), PROMPT_LENGTHS, make_expected, strict=True
    ):
        assert row["prefix_ids"].tolist() == ids[:n].tolist()
        assert row["prefix_length"] == n
        assert len(row["decoded_ids"]) == (3 if kind == "sampled" else 1)
        for sample in row["decoded_ids"]:
            assert sample.tolist()[:NEW] == tokens
            assert kind == "left-aligned" or len(sample) == len(tokens)


def test_log_probabilities_are_those_of_the_tokens(network, greedy, make_expected):
    out, codegen = greedy
    _, pairs, _ = codegen.process_decode_out(None, out)
    for (_, row), tokens in zip(pairs, make_expected, strict=True):
        whole = np.concatenate([row["prefix_ids"], tokens])
        logits = reference_logits(network, whole[np.newaxis])[0]
        log_probabilities = jax.nn.log_softmax(logits)[row["prefix_length"] - 1 : -1]
        (actual,) = row["logprobs"]
        np.testing.assert_allclose(
            actual, np.asarray(log_probabilities)[np.arange(len(tokens)), tokens], atol=1e-4
        )


def test_log_probabilities_equal_praxis(greedy, by_praxis):
    """As its loop over the stacked layers gives them, also after the first that may differ."""
    (actual, _), (expected, _) = greedy, by_praxis
    is_new = np.arange(PROMPT + NEW) < actual.decode_lengths[..., np.newaxis]
    is_new &= np.arange(PROMPT + NEW) >= PROMPT_LENGTHS[:, np.newaxis, np.newaxis]
    np.testing.assert_array_equal(
        np.where(is_new, actual.output_ids, 0)[:, 0],
        np.where(is_new[:, 0], expected.output_ids.reshape(SHAPE.batch, -1), 0),
    )
    difference = actual.logprobs[:, 0] - expected.logprobs.reshape(SHAPE.batch, -1)
    assert np.abs(difference[is_new[:, 0]]).max() < 1e-5


@pytest.mark.parametrize("tokens", [1, PROMPT, 2 * PROMPT, 5 * PROMPT])
def test_prompts_read_in_groups_are_continued_alike(weights, tokens):
    form = unstacked.Form(SHAPE.head_dims, SHAPE.rotary_dims)
    ids = [
        generation.generate(
            weights,
            jnp.asarray(prompts()),
            jnp.asarray(PROMPT_LENGTHS),
            jax.random.PRNGKey(0),
            None,
            generation.Options(form, EOS, NEW, samples=2, prefill_tokens=group),
        ).ids
        for group in (tokens, None)
    ]
    np.testing.assert_array_equal(*ids)


@settings(deadline=None)
@given(
    st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=40),
    st.floats(0.01, 1),
    st.floats(0.1, 10),
)
def test_the_nucleus_is_the_least_set_of_the_likeliest_tokens(row, top_p, temperature):
    """Within float32: where the likelier tokens sum to `top_p` almost exactly, both are right."""
    row = row + [-100.0] * (40 - len(row))  # one size, one program
    logits = jnp.asarray(row, jnp.float32)[:, jnp.newaxis]
    probabilities = np.asarray(jax.nn.softmax(logits / temperature, axis=0), np.float64)[:, 0]
    threshold = generation.nucleus_threshold(jax.nn.softmax(logits / temperature, axis=0), top_p)
    is_in = probabilities >= float(threshold[0])
    likelier = np.array([probabilities[probabilities > p].sum() for p in probabilities])
    assert np.all(is_in[likelier < top_p - 1e-5])
    assert top_p == 1 or not np.any(is_in[likelier > top_p + 1e-5])


def test_samples_follow_the_nucleus_of_transformers(network, weights):
    """The first new token of 2,000 samples is spread as top-p 0.8 at temperature 0.6 says."""
    count, temperature, top_p = 2_000, 0.6, 0.8
    decoder = model.sample_decoder(
        prompt_length=PROMPT,
        max_new_tokens=1,
        eos_id=NO_EOS,
        temperature=temperature,
        top_p=top_p,
        num_samples=count,
    )
    out, codegen = decode(decoder, weights)
    _, pairs, _ = codegen.process_decode_out(None, out)
    for _, row in pairs:
        logits = reference_logits(network, row["prefix_ids"][np.newaxis])[0, -1] / temperature
        probabilities = np.exp(logits - np.logaddexp.reduce(logits))
        order = np.argsort(-probabilities)
        before = np.cumsum(probabilities[order]) - probabilities[order]
        probabilities[order[before >= top_p]] = 0
        probabilities /= probabilities.sum()

        tokens = np.concatenate(row["decoded_ids"])
        frequencies = np.bincount(tokens, minlength=SHAPE.vocab_size) / count
        assert np.all(probabilities[tokens] > 0)
        # Five standard deviations of a count of 2,000 draws.
        spread = np.sqrt(probabilities * (1 - probabilities) / count)
        assert np.all(np.abs(frequencies - probabilities) <= 5 * spread + 1e-9)


def test_samples_keep_their_order_and_follow_the_seed(weights):
    decoder = model.sample_decoder(
        prompt_length=PROMPT,
        max_new_tokens=NEW,
        eos_id=NO_EOS,
        temperature=1.0,
        top_p=0.95,
        num_samples=4,
    )
    (first, again, other), _ = decode_each((1, 1, 2), decoder, weights)
    np.testing.assert_array_equal(first.output_ids, again.output_ids)
    assert np.any(first.output_ids != other.output_ids)
    # Sorted samples would stand in falling order of probability in every row.
    scores = np.where(first.logprobs <= 0, first.logprobs, 0).sum(axis=-1)
    assert np.any(np.diff(scores, axis=1) > 0)


def test_rows_that_fill_a_batch_up_are_left_out(weights):
    decoder = model.greedy_decoder(prompt_length=PROMPT, max_new_tokens=2, eos_id=NO_EOS)
    is_real = np.array([1, 0, 1, 1, 0], np.float32)
    out, codegen = decode(decoder, weights, eval_sample_weights=is_real)
    metrics, pairs, _ = codegen.process_decode_out(None, out)
    kept = [prompts()[i, : PROMPT_LENGTHS[i]] for i in np.flatnonzero(is_real)]
    assert [key for key, _ in pairs] == [" ".join(map(str, ids)) for ids in kept]
    assert metrics.decoded_length == (2.0, 3.0)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"temperature": 0.0}, "temperature must be from 1e-05 to 100, .* found 0.0"),
        ({"temperature": 1e-40}, "temperature must be from 1e-05 to 100, .* found 1e-40"),
        ({"temperature": float("nan")}, "temperature must be from 1e-05 to 100, .* found nan"),
        ({"num_samples": 0}, "samples must be from 1 to 10,000; found 0"),
        ({"max_new_tokens": 0}, "length must be at least 1 new token; found 0"),
        ({"top_p": 0.0}, "top_p must be above 0 and at most 1, found 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0 and at most 1, found 1.5"),
    ],
)
def test_impossible_sampling_is_refused(wrong, message):
    settings = {"temperature": 1.0, "top_p": 0.95, "max_new_tokens": NEW, "num_samples": 1} | wrong
    with pytest.raises(ValueError, match=message):
        model.sample_decoder(prompt_length=PROMPT, eos_id=EOS, **settings)
