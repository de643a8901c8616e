"""How well a run uses its hardware: model FLOPs utilisation, and the scalars about speed.

Model FLOPs utilisation (MFU) is the model FLOPs that a run does in a second, over the peak of all
its devices (arXiv 2204.02311, appendix B). `Work` says what is counted, and `peak` what it is a
share of.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from codegen_pax.plan import accelerators
from codegen_pax.runs.progress import Speed

# Tags of TensorBoard, next to Pax's `Steps/sec`.
TOKENS_PER_SECOND = "Speed/tokens_per_second"
MFU = "Speed/model_flops_utilisation"
CAUSAL_MFU = "Speed/model_flops_utilisation_causal"
INPUT_WAIT = "Speed/input_wait_share"
SECONDS_LEFT = "Speed/seconds_left"

_CONVENTION = "6 a multiplied weight, attention whole, nothing recomputed"

# A product is measured at sides that double until it takes so long that the time to start it does
# not matter.
_SIDES = (512, 1_024, 2_048, 4_096, 8_192)
_LONG_ENOUGH = 5e-3  # seconds
_REPETITIONS = 10
_MOST_SECONDS = 1.0  # a busy CPU, or one without instructions for the type, takes much longer


@dataclass(frozen=True)
class Work:
    """The arithmetic of a step.

    Attributes:
        tokens: The tokens of a step: all positions of its rows, padding too.
        flops_per_token: Model FLOPs to train on a token: 6 for each weight that is multiplied, and
            the attention between all pairs of positions. What is recomputed to save memory is not
            counted.
        causal_flops_per_token: The same with half of the attention, the convention of MaxText since
            July 2025.
        dtype: The type of the activations, 'float32' or 'bfloat16'.
    """

    tokens: int
    flops_per_token: int
    causal_flops_per_token: int
    dtype: str


@dataclass(frozen=True)
class Peak:
    """What the FLOPs of a second are a share of.

    Attributes:
        flops: FLOP/s of all devices of the run.
        source: Where the number comes from, in words.
    """

    flops: float
    source: str


def peak(dtype: str) -> Peak:
    """Returns the peak of the devices of a run.

    For an accelerator of the table it is the data sheet's, in dense bfloat16 whatever `dtype` is.
    Elsewhere it is the rate of a matrix product, which is measured here in well under a second:
    times the number of devices, or on CPUs of processes, as the devices of one share its cores.

    Args:
        dtype: The type to measure in, 'float32' or 'bfloat16'.
    """
    devices = jax.devices()
    kind, platform = devices[0].device_kind, devices[0].platform
    if accelerator := accelerators.of_kind(kind):
        return Peak(
            len(devices) * accelerator.device_flops,
            f"dense bfloat16 by the data sheet of {accelerator.name}",
        )
    count = jax.process_count() if platform == "cpu" else len(devices)
    return Peak(
        count * matrix_product_rate(dtype),
        f"the {dtype} matrix-product rate measured here: no data sheet of '{kind}' is known",
    )


def matrix_product_rate(dtype: str, clock: Callable[[], float] = time.perf_counter) -> float:
    """Measures the rate of a product of two square matrices on this host's first device, in FLOP/s.

    Args:
        dtype: The type of the matrices.
        clock: Returns seconds.
    """
    product, rate, began = jax.jit(jnp.matmul), 0.0, clock()
    for side in _SIDES:
        with jax.default_device(jax.local_devices()[0]):
            matrix = jnp.ones((side, side), dtype)
        product(matrix, matrix).block_until_ready()  # compiles
        times: list[float] = []
        while len(times) < _REPETITIONS and (not times or clock() - began < _MOST_SECONDS):
            start = clock()
            product(matrix, matrix).block_until_ready()
            times.append(clock() - start)
        rate = max(rate, 2 * side**3 / min(times))
        if min(times) >= _LONG_ENOUGH or clock() - began >= _MOST_SECONDS:
            break
    return rate


def convention(work: Work, of: Peak) -> str:
    """Returns in words what the utilisation of a run is."""
    return (
        f"MFU is model FLOPs ({_scaled(work.flops_per_token)} a token: {_CONVENTION}; "
        f"{_scaled(work.causal_flops_per_token)} with causal attention halved) of "
        f"{_scaled(of.flops)}FLOP/s, {of.source}"
    )


@dataclass(frozen=True)
class Entry:
    """A number about speed, as TensorBoard shows it.

    Attributes:
        tag: Its tag.
        value: Its value.
        description: What it is, in Markdown.
    """

    tag: str
    value: float
    description: str


def mfu(flops_per_token: int, speed: Speed, of: Peak) -> float:
    """Returns the share of a peak that the model FLOPs of a second are, from 0 to 1."""
    return flops_per_token * speed.tokens_per_second / of.flops


def entries(work: Work, speed: Speed, of: Peak) -> list[Entry]:
    """Returns what a record writes about the speed of the steps since the last one.

    Args:
        work: The arithmetic of a step.
        speed: What was measured.
        of: The peak of the run's devices.
    """
    since = "Since the last record, without compilation, evaluations and checkpoints."
    peak_words = f"{_scaled(of.flops)}FLOP/s, {of.source}"
    return [
        Entry(TOKENS_PER_SECOND, speed.tokens_per_second, f"Padding counts. {since}"),
        Entry(
            MFU,
            mfu(work.flops_per_token, speed, of),
            f"Share of {peak_words}. Model FLOPs: {_CONVENTION}. {since}",
        ),
        Entry(
            CAUSAL_MFU,
            mfu(work.causal_flops_per_token, speed, of),
            f"The same with causal attention halved, as MaxText counts since July 2025. {since}",
        ),
        Entry(
            INPUT_WAIT,
            speed.input_wait,
            f"Share of the time of the steps that the first host waits for its batches. {since}",
        ),
        Entry(
            SECONDS_LEFT,
            speed.seconds_left,
            "To the last step, at the pace since the first record, with the evaluations and "
            "checkpoints between.",
        ),
    ]


def _scaled(number: float) -> str:
    """Formats 275e12 as '275 T'."""
    for scale, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G")):
        if number >= scale:
            return f"{number / scale:.3g} {letter}"
    return f"{number / 1e6:.3g} M"
