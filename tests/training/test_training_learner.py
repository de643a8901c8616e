"""The learner's schedule against jaxformer's formula and the fixture, its clipping against Pax'."""

import json
import math
import pathlib

import jax
import numpy as np
import pytest
from praxis import base_layer

from codegen_pax import devices
from codegen_pax.training.learner import learner

FIXTURES = pathlib.Path(__file__).parents[1] / "fixtures"


def rates(steps, **settings):
    """The learning rate that Pax's optimizer uses at `steps`, counted from 0."""
    pax = learner(decay="matrices", **settings).set(name="learner").Instantiate()
    return np.array([pax.optimizer.get_learning_rate(step) for step in steps])


def formula(step, maximum, end, warmup, anneal):
    """One step in float64: linear to the maximum, a cosine of `anneal` steps, then `end`."""
    if step <= warmup:
        return maximum * step / warmup
    done = min((step - warmup) / anneal, 1.0)
    return maximum - (maximum - end) * (1 - math.cos(math.pi * done)) / 2


def test_rates_are_the_fixtures_from_the_first_step():
    steps = np.load(FIXTURES / "jaxformer_trajectory.npz")["steps"]
    settings = json.loads((FIXTURES / "jaxformer_trajectory.json").read_text())
    used = rates(
        range(25),
        learning_rate=settings["opt_lr_max"],
        warmup_steps=settings["opt_warmup_steps"],
        anneal_steps=settings["opt_anneal_steps"],
        min_ratio=settings["opt_lr_end"] / settings["opt_lr_max"],
    )
    assert used[0] == steps[0, 3] == 0
    np.testing.assert_allclose(used, steps[:, 3], rtol=1e-6)


@pytest.mark.parametrize("anneal", [300_000, 347_000], ids=["jaxformer", "paper"])
def test_cosine_ends_where_the_recipe_ends_it(anneal):
    """350k steps: jaxformer's cosine is over at 303k and flat from there, the paper's at 350k."""
    steps = [0, 1, 2_999, 3_000, 3_001, 100_000, 302_000, 303_000, 303_001, 349_999, 350_000]
    used = rates(steps, learning_rate=3e-4, warmup_steps=3_000, anneal_steps=anneal)
    expected = [formula(step, 3e-4, 3e-5, 3_000, anneal) for step in steps]
    # float32 holds the angle to 2e-7 of pi; near the end the rate hardly depends on it.
    np.testing.assert_allclose(used, expected, rtol=1e-6)
    at_303k, at_349_999 = used[7], used[9]
    if anneal == 300_000:
        np.testing.assert_allclose([at_303k, at_349_999], 3e-5, rtol=1e-6)
    else:
        assert at_303k > 1.3 * 3e-5
        assert at_303k > at_349_999


def test_floor_is_a_ratio_of_the_maximum():
    """jaxformer's 350M Multi goes from 1.8e-4 to 3e-5, a sixth."""
    used = rates(
        [150_000], learning_rate=1.8e-4, warmup_steps=3_000, anneal_steps=147_000, min_ratio=1 / 6
    )
    np.testing.assert_allclose(used, 3e-5, rtol=1e-6)


@pytest.mark.parametrize("name", ["warmup_steps", "anneal_steps", "accumulation_steps"])
def test_refuses_impossible_steps(name):
    steps = {"warmup_steps": 1, "anneal_steps": 1, "accumulation_steps": 1, name: -1}
    with pytest.raises(ValueError, match=f"{name}=-1.*expected at least 0, 1 and 1"):
        learner(learning_rate=1.0, decay="matrices", **steps)


@pytest.mark.parametrize("scale", [0.01, 10, np.inf, np.nan])
@pytest.mark.parametrize("clip_norm", [1.0, 0.0])
def test_gradients_are_clipped_as_pax_clips_them(clip_norm, scale, monkeypatch):
    """By a norm that is added up in another way, of arrays of whole rows and of others."""
    pax = learner(
        decay="matrices", learning_rate=1e-3, warmup_steps=1, anneal_steps=9, clip_norm=clip_norm
    )
    pax = pax.set(name="learner").Instantiate()
    shapes = [(3, 4, 1024), (1024,), (7, 5)]
    keys = jax.random.split(jax.random.PRNGKey(0), len(shapes))
    grads = [jax.random.normal(*one) for one in zip(keys, shapes, strict=True)]
    grads[0] = grads[0].at[1, 2, 3].multiply(scale)

    def clipped_and_summaries():
        with base_layer.JaxContext.new_context():
            return *pax._clipped(grads), dict(base_layer.all_global_summaries())

    actual = clipped_and_summaries()
    monkeypatch.setattr(devices, "on_one_cpu", lambda: False)
    expected = clipped_and_summaries()
    assert bool(actual[1]) == np.isfinite(scale)
    assert actual[2].keys() == expected[2].keys() and len(actual[2]) == 4
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=2e-6), actual, expected)
