"""Decoding in plain JAX: the prompt in one pass, then one token of every row at a time."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from codegen_pax.model.unstacked import Array, Cache, Form, Network, Weights, split

# XLA's products on a CPU are at their best up to this many columns.
PREFILL_TOKENS = 1024


class Generated(NamedTuple):
    """What was generated.

    Attributes:
        ids: [B, K, M], the new tokens of each sample, 0 after the end of text.
        logprobs: [B, K, M], their log-probabilities at temperature 1; 0 after the end.
        lengths: [B, K], the number of new tokens, the end of text included.
    """

    ids: Array
    logprobs: Array
    lengths: Array


class Choice(NamedTuple):
    """How the next token is chosen; numbers that change no compiled program.

    Attributes:
        temperature: The logits are divided by it; a number or a scalar array.
        top_p: The probability mass of the nucleus; a number or a scalar array.
    """

    temperature: Any
    top_p: Any


@dataclasses.dataclass(frozen=True)
class Options:
    """What a compiled program of decoding depends on, beside shapes.

    Attributes:
        form: Of the network.
        eos_id: The token that ends a text.
        new_tokens: M, the largest number of new tokens: the room that is made for them.
        samples: K, the continuations of each prompt.
        prefill_tokens: The columns of prompts that are read at once, at least one whole prompt;
            None reads all, as it must be where the batch is split over devices.
    """

    form: Form
    eos_id: int
    new_tokens: int
    samples: int = 1
    prefill_tokens: int | None = None


class State(NamedTuple):
    """Rows that are being continued.

    Attributes:
        step: The number of new tokens so far.
        tokens: [B K], the last of them, which is not in the caches yet.
        starts: [B K], the column of a row's first token: all prompts end in column P - 1.
        done: [B K], whether a row has ended.
        ids: [B K, M], the new tokens, 0 after the end of text.
        logprobs: [B K, M], their log-probabilities at temperature 1; 0 after the end.
        lengths: [B K], the number of new tokens, the end of text included.
        key: The key of the draws.
        choice: How to draw; None takes the likeliest token.
        caches: One for each layer.
    """

    step: Array
    tokens: Array
    starts: Array
    done: Array
    ids: Array
    logprobs: Array
    lengths: Array
    key: Array
    choice: Choice | None
    caches: tuple[Cache, ...]


def start(
    params: Mapping[str, Any],
    prompts: Array,
    lengths: Array,
    key: Array,
    choice: Choice | None,
    options: Options,
) -> tuple[Weights, State]:
    """Splits the weights, reads the prompts and chooses the first new token of each row.

    Args:
        params: The tree of the language model, as Pax stores it.
        prompts: [B, P], each prompt at the left of its row; what follows it is not read.
        lengths: [B], the tokens of each prompt, at least 1.
        key: The key of the draws.
        choice: How to draw; None takes the likeliest token.
        options: What else decides.
    """
    weights = split(params, options.form)
    width = prompts.shape[1]
    starts = width - lengths
    network = Network(weights, options.form)
    logits, caches = _in_groups(
        functools.partial(network.prefill, room=width + options.new_tokens),
        _group_rows(prompts.shape[0], width, options.prefill_tokens),
        (_right_aligned(prompts, lengths), starts),
    )
    logits, starts, caches = jax.tree.map(
        lambda x: jnp.repeat(x, options.samples, axis=0), (logits, starts, caches)
    )
    rows = logits.shape[0]
    state = State(
        step=jnp.int32(0),
        tokens=jnp.zeros(rows, jnp.int32),
        starts=starts,
        done=jnp.zeros(rows, bool),
        ids=jnp.zeros((rows, options.new_tokens), jnp.int32),
        logprobs=jnp.zeros((rows, options.new_tokens), jnp.float32),
        lengths=jnp.zeros(rows, jnp.int32),
        key=key,
        choice=choice,
        caches=caches,
    )
    return weights, _choose(logits.T, state, options)


def advance(weights: Weights, state: State, options: Options) -> State:
    """Reads the last token of each row, and chooses the next."""
    column = state.caches[0].keys.shape[2] - options.new_tokens + state.step - 1
    logits, caches = Network(weights, options.form).step(
        state.tokens, column, state.starts, state.caches
    )
    return _choose(logits, state._replace(caches=caches), options)


def generate(
    params: Mapping[str, Any],
    prompts: Array,
    lengths: Array,
    key: Array,
    choice: Choice | None,
    options: Options,
) -> Generated:
    """Continues prompts until all have ended; see `start` for the arguments."""
    weights, state = start(params, prompts, lengths, key, choice, options)
    state = lax.while_loop(
        lambda state: (state.step < options.new_tokens) & ~jnp.all(state.done),
        lambda state: advance(weights, state, options),
        state,
    )
    return result(state, options)


def result(state: State, options: Options) -> Generated:
    """Returns what was generated, the samples of each prompt apart."""

    def apart(rows: Array) -> Array:
        return rows.reshape(-1, options.samples, *rows.shape[1:])

    return Generated(apart(state.ids), apart(state.logprobs), apart(state.lengths))


def _choose(logits: Array, state: State, options: Options) -> State:
    """Adds a token, chosen by `logits` [V, B K], to each row that has not ended."""
    chosen = next_token(logits, state.choice, jax.random.fold_in(state.key, state.step))
    logprob = jnp.take_along_axis(logits, chosen[jnp.newaxis], axis=0)[0]
    logprob = jnp.where(state.done, 0.0, logprob - jax.nn.logsumexp(logits, axis=0))
    ids = jnp.where(state.done, 0, chosen)
    place = (0, state.step)
    return state._replace(
        step=state.step + 1,
        tokens=ids,
        done=state.done | (chosen == options.eos_id),
        ids=lax.dynamic_update_slice(state.ids, ids[:, jnp.newaxis], place),
        logprobs=lax.dynamic_update_slice(state.logprobs, logprob[:, jnp.newaxis], place),
        lengths=state.lengths + ~state.done,
    )


def _group_rows(rows: int, width: int, tokens: int | None) -> int:
    """Returns the largest divisor of `rows` whose rows hold at most `tokens`, or one row."""
    if tokens is None:
        return rows
    return next(n for n in range(rows, 0, -1) if rows % n == 0 and (n * width <= tokens or n == 1))


def _in_groups(function: Callable, group: int, arrays: tuple[Array, ...]) -> Any:
    """Applies a function to `group` rows [B, ...] of the arrays at a time."""
    if group == arrays[0].shape[0]:
        return function(*arrays)
    groups = jax.tree.map(lambda x: x.reshape(-1, group, *x.shape[1:]), arrays)
    out = lax.map(lambda rows: function(*rows), groups)
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), out)


def _right_aligned(prompts: Array, lengths: Array) -> Array:
    """Returns the prompts [B, P] with their last tokens in the last column."""
    width = prompts.shape[1]
    columns = jnp.arange(width) - (width - lengths[:, jnp.newaxis])
    return jnp.take_along_axis(prompts, jnp.maximum(columns, 0), axis=1)


def next_token(logits: Array, choice: Choice | None, key: Array) -> Array:
    """Returns the next token [B] of each row, by logits [V, B].

    Args:
        logits: [V, B], float32.
        choice: How to draw; None takes the likeliest.
        key: The key of the draws.
    """
    if choice is None:
        return jnp.argmax(logits, axis=0).astype(jnp.int32)
    tempered = logits / choice.temperature
    probabilities = jax.nn.softmax(tempered, axis=0)
    nucleus = probabilities >= nucleus_threshold(probabilities, choice.top_p)
    drawn = jax.random.categorical(key, jnp.where(nucleus, tempered, -jnp.inf), axis=0)
    return drawn.astype(jnp.int32)


def nucleus_threshold(probabilities: Array, top_p: float | Array) -> Array:
    """Returns the least probability [B] in the nucleus of `probabilities` [V, B].

    The nucleus holds the likeliest tokens, until their sum reaches `top_p`: a token is in it if
    those likelier sum to less. The bits of floats that are not negative are in their order, so
    that 31 halvings of an integer interval find the least such probability without a sort.
    """
    bits = lax.bitcast_convert_type(probabilities, jnp.int32)

    def halve(_, bounds):
        low, high = bounds  # tokens of `low` and less likely ones are out, of `high` are in
        middle = low + (high - low) // 2
        likelier = jnp.sum(jnp.where(bits > middle, probabilities, 0.0), axis=0)
        is_in = likelier < top_p
        return jnp.where(is_in, low, middle), jnp.where(is_in, middle, high)

    columns = probabilities.shape[1]
    low = jnp.full(columns, -1, jnp.int32)
    high = lax.bitcast_convert_type(jnp.ones(columns), jnp.int32)
    _, high = lax.fori_loop(0, 31, halve, (low, high))
    threshold = lax.bitcast_convert_type(jnp.maximum(high, 0), jnp.float32)
    # The sum of all may round to 1 before the last of them is added.
    return jnp.where(jnp.float32(top_p) < 1, threshold, 0.0)
