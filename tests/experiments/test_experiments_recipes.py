"""Each difference between the two recipes, in the configuration that Pax is given."""

import pytest

import codegen
from experiments.recipes import RECIPES
from experiments.settings import Settings

# (experiment, path in its task, under jaxformer, under paper)
LEARNER = "train.learner"
DIFFERENCES = [
    ("CodeGen350MNL", f"{LEARNER}.optimizer.decay", "stacked_rank", "matrices"),
    ("CodeGen350MNL", f"{LEARNER}.stochastic_gradient.accumulation_dtype", "bfloat16", "float32"),
    ("CodeGen350MNL", f"{LEARNER}.optimizer.lr_schedule.decay_end", 303_000, 350_000),
    ("CodeGen350MMulti", f"{LEARNER}.optimizer.lr_schedule.min_ratio", 1 / 6, 0.1),
    ("CodeGen6BNL", f"{LEARNER}.stochastic_gradient.accumulation_steps", 16, 32),
    ("CodeGen350MNL", "model.lm_tpl.softmax_tpl.z_loss_weight", 1e-4, 0.0),
]


def at(config, path):
    for name in path.split("."):
        config = getattr(config, name)
    return config


@pytest.mark.parametrize(("name", "path", "jaxformer", "paper"), DIFFERENCES)
def test_a_difference_reaches_pax(name, path, jaxformer, paper):
    for recipe, expected in (("jaxformer", jaxformer), ("paper", paper)):
        settings = Settings(recipe=RECIPES[recipe])
        actual = at(getattr(codegen, name)(settings).task(), path)
        assert actual == (pytest.approx(expected) if isinstance(expected, float) else expected), (
            recipe
        )
