"""Model FLOPs utilisation: of what it is a share, and how it is said."""

import types

import jax
import pytest

from codegen_pax.runs import utilisation
from codegen_pax.runs.progress import Speed
from codegen_pax.runs.utilisation import Peak, Work
from experiments.sizes import SIZES

SIZE = SIZES["16B"]
WORK = Work(2**21, SIZE.flops_per_token(), SIZE.causal_flops_per_token(), "bfloat16")


def devices(monkeypatch, kind: str, platform: str, count: int, processes: int = 1):
    device = types.SimpleNamespace(device_kind=kind, platform=platform)
    monkeypatch.setattr(jax, "devices", lambda: [device] * count)
    monkeypatch.setattr(jax, "process_count", lambda: processes)
    monkeypatch.setattr(utilisation, "matrix_product_rate", lambda dtype: 5e10)


def test_the_peak_of_a_slice_is_that_of_all_its_chips(monkeypatch):
    devices(monkeypatch, "TPU v4", "tpu", 256)
    actual = utilisation.peak("bfloat16")
    assert actual.flops == 256 * 275e12
    assert actual.source == "dense bfloat16 by the data sheet of TPU v4"


def test_devices_of_a_cpu_share_its_cores(monkeypatch):
    devices(monkeypatch, "cpu", "cpu", 8, processes=2)
    actual = utilisation.peak("float32")
    assert actual.flops == 2 * 5e10
    assert actual.source == (
        "the float32 matrix-product rate measured here: no data sheet of 'cpu' is known"
    )


def test_an_unknown_accelerator_is_as_fast_as_all_its_devices(monkeypatch):
    devices(monkeypatch, "NVIDIA H100 PCIe", "gpu", 8)
    assert utilisation.peak("bfloat16").flops == 8 * 5e10


def test_a_product_counts_two_flops_for_each_of_its_multiplications():
    now = 0.0

    def clock():
        nonlocal now
        now += 0.01
        return now

    assert utilisation.matrix_product_rate("float32", clock) == pytest.approx(2 * 512**3 / 0.01)


def test_this_machine_multiplies():
    assert 1e8 < utilisation.matrix_product_rate("float32") < 1e15


def test_what_a_record_says_of_the_speed():
    """16B at the 42% that Pax publishes for it on a v4-512, by hand."""
    of = Peak(256 * 275e12, "dense bfloat16 by the data sheet of TPU v4")
    speed = Speed(tokens_per_second=300_000, seconds_left=3_600, input_wait=0.01)
    entries = utilisation.entries(WORK, speed, of)
    values = {entry.tag: entry.value for entry in entries}
    assert values == {
        "Speed/tokens_per_second": 300_000,
        "Speed/model_flops_utilisation": pytest.approx(99_430_170_624 * 3e5 / 70.4e15),  # 0.424
        "Speed/model_flops_utilisation_causal": pytest.approx(96_863_256_576 * 3e5 / 70.4e15),
        "Speed/input_wait_share": 0.01,
        "Speed/seconds_left": 3_600,
    }
    assert all(entry.description for entry in entries)
    assert utilisation.convention(WORK, of) == (
        "MFU is model FLOPs (99.4 G a token: 6 a multiplied weight, attention whole, nothing "
        "recomputed; 96.9 G with causal attention halved) of 70.4 PFLOP/s, dense bfloat16 by the "
        "data sheet of TPU v4"
    )
