"""Limits of decoding parameters. Standard library only.

`model.decoding` checks them when it builds a decoder, and the command before it imports one.
"""

from __future__ import annotations

from codegen_pax.errors import InvalidValueError

# Sampling adds noise between -5 and 17 to the logits divided by the temperature. Below this value a
# logit of 100 becomes more than 1e7, where consecutive float32 numbers differ by 1: the noise is
# rounded away and the most likely token is always chosen. Far below, the quotient overflows.
LEAST_TEMPERATURE = 1e-5
# At this value tokens whose logits differ by a hundred are nearly equally likely. It also excludes
# the rows that pad a vocabulary, whose logits are -32768 (`weights`).
GREATEST_TEMPERATURE = 100.0

# Every sample has its own keys and values. pass@100 is estimated from 200 samples; no device has
# memory for this many of a real size, so that a larger number is a typing error.
MOST_SAMPLES = 10_000

# JAX uses the lower 32 bits of a seed.
GREATEST_SEED = 2**32 - 1


def check_temperature(temperature: float) -> None:
    """Raises InvalidValueError unless tokens can be sampled at this temperature; 0 is greedy."""
    if not LEAST_TEMPERATURE <= temperature <= GREATEST_TEMPERATURE:
        raise InvalidValueError(
            f"temperature must be from {LEAST_TEMPERATURE:g} to {GREATEST_TEMPERATURE:g}, or 0 "
            f"for greedy decoding, where it is allowed; found {temperature}"
        )


def check_top_p(top_p: float) -> None:
    """Raises InvalidValueError unless it is the probability mass of a nucleus."""
    if not 0 < top_p <= 1:
        raise InvalidValueError(f"top_p must be above 0 and at most 1, found {top_p}")


def check_samples(samples: int) -> None:
    """Raises InvalidValueError unless this number of continuations can be sampled."""
    if not 1 <= samples <= MOST_SAMPLES:
        raise InvalidValueError(f"samples must be from 1 to {MOST_SAMPLES:,}; found {samples}")


def check_length(length: int) -> None:
    """Raises InvalidValueError unless it is a positive number of new tokens."""
    if length < 1:
        raise InvalidValueError(f"length must be at least 1 new token; found {length}")


def check_seed(seed: int) -> None:
    """Raises InvalidValueError unless the seed fits into JAX's 32 bits."""
    if not 0 <= seed <= GREATEST_SEED:
        raise InvalidValueError(f"seed must be from 0 to {GREATEST_SEED:,}; found {seed}")
