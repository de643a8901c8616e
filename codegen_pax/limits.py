"""What may be asked of a decoder: each number's limits, and why. Standard library only.

Whoever makes a decoder checks these (`model.decoding`), and a command before it imports one.
"""

from __future__ import annotations

from codegen_pax.errors import InvalidValueError

# A draw adds noise between -5 and 17 to the logits divided by the temperature. Divided by less
# than this, a logit of 100 is over 1e7, where float32's neighbours are 1 apart: the noise is
# rounded away, and what is drawn is the likeliest token. Far below, the quotient is infinite.
LEAST_TEMPERATURE = 1e-5
# At this, tokens a hundred apart in their logits are as good as alike. It also keeps out of every
# draw the rows that fill a vocabulary up, whose logits are -32768 (`weights.vocabulary_rows`).
GREATEST_TEMPERATURE = 100.0

# Each sample has keys and values of its own. 200 are what pass@100 is estimated from; this many are
# more than any device holds of a real size, and a slip of the hand.
MOST_SAMPLES = 10_000

# JAX makes a key of 32 bits here: a seed above is the same as the one 2**32 below.
GREATEST_SEED = 2**32 - 1


def check_temperature(temperature: float) -> None:
    """Raises ValueError unless tokens can be drawn at it; at 0 none is drawn."""
    if not LEAST_TEMPERATURE <= temperature <= GREATEST_TEMPERATURE:
        raise InvalidValueError(
            f"temperature must be from {LEAST_TEMPERATURE:g} to {GREATEST_TEMPERATURE:g}, or 0 "
            f"where the likeliest token is taken and none is drawn; found {temperature}"
        )


def check_top_p(top_p: float) -> None:
    """Raises ValueError unless it is a probability that a nucleus can have."""
    if not 0 < top_p <= 1:
        raise InvalidValueError(f"top_p must be above 0 and at most 1, found {top_p}")


def check_samples(samples: int) -> None:
    """Raises ValueError unless so many continuations of a prompt can be drawn."""
    if not 1 <= samples <= MOST_SAMPLES:
        raise InvalidValueError(f"samples must be from 1 to {MOST_SAMPLES:,}; found {samples}")


def check_length(length: int) -> None:
    """Raises ValueError unless it is a number of new tokens."""
    if length < 1:
        raise InvalidValueError(f"length must be at least 1 new token; found {length}")


def check_seed(seed: int) -> None:
    """Raises ValueError unless no other seed gives the same draws."""
    if not 0 <= seed <= GREATEST_SEED:
        raise InvalidValueError(f"seed must be from 0 to {GREATEST_SEED:,}; found {seed}")
