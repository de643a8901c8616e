"""Every conversion at the width of the real 350M, against transformers, in float32."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from praxis import base_layer

from codegen_pax.cli.core.main import main
from codegen_pax.runs.checkpoint_arrays import read_variables
from codegen_pax.runs.completions import Decoding, continue_prompts
from codegen_pax.weights import layouts
from tests.cli.wide_experiments import SHALLOW_SIZE as SIZE
from tests.model.random_models import Shape, reference
from tests.weights import in_memory
from tests.weights.networks import logits, save_jaxformer

MODULE = ("--module", "tests.cli.wide_experiments")
EXPERIMENT = ("--experiment", "Shallow", *MODULE)
SHAPE = Shape(SIZE.layers, SIZE.heads, SIZE.head_dims, SIZE.rotary_dims, SIZE.vocab_size)
CHECKPOINT = Path("checkpoints", "checkpoint_00000000")
NEW = 64
WITHIN = 1e-4


@pytest.fixture(scope="module")
def network():
    """transformers' network, random."""
    actual = reference(SHAPE, seed=7)
    actual.config.n_positions = SIZE.context  # what it says, not what it is tried with
    return actual


@pytest.fixture(scope="module")
def ids():
    return np.random.default_rng(0).integers(0, SIZE.vocab_size, (2, 24))


@pytest.fixture(scope="module")
def expected(network, ids):
    return logits(network, ids)


@pytest.fixture(scope="module")
def job(network, tmp_path_factory):
    """The network as transformers saves it, imported."""
    folder = tmp_path_factory.mktemp("real")
    network.save_pretrained(folder / "source")
    arguments = [*EXPERIMENT, "--output", str(folder / "job")]
    assert main(["import", "hf", str(folder / "source"), *arguments]) == 0
    return folder / "job"


def assert_close(actual: np.ndarray, expected: np.ndarray) -> None:
    assert np.abs(expected).max() > 1
    assert np.abs(actual - expected).max() < WITHIN


def pax_logits(checkpoint: Path, ids: np.ndarray) -> np.ndarray:
    lm = base_layer.instantiate(SHAPE.language_model(embedding_bias=True))
    tree = {"params": read_variables(checkpoint)["params"]["lm"]}
    return np.asarray(jax.jit(lm.apply)(tree, jnp.asarray(ids), jnp.zeros(ids.shape)).logits)


def test_hugging_face_in_pax(job, ids, expected):
    assert_close(pax_logits(job / CHECKPOINT, ids), expected)


def test_greedy_completions_are_the_same_token_for_token(job, network):
    prompts = [[1, 2, 3, 0, 50_000], [7] * 9]
    dims = layouts.Dimensions.of(SIZE, embedding_bias=True)
    decoding = Decoding(new_tokens=NEW, eos_id=50_256)
    actual = continue_prompts(
        job / CHECKPOINT,
        layouts.pax_shapes(dims),
        SIZE.head_dims,
        SIZE.rotary_dims,
        prompts,
        decoding,
    )
    for (sample,), prompt in zip(actual, prompts, strict=True):
        with torch.no_grad():
            out = network.generate(
                torch.tensor([prompt]),
                max_new_tokens=NEW,
                do_sample=False,
                eos_token_id=50_256,
                pad_token_id=50_256,
            )
        continuation = out[0, len(prompt) :].tolist()
        assert len(continuation) == NEW and len({*continuation}) > 1
        assert sample.tolist() == continuation


@pytest.mark.parametrize("kind", ["hf", "gptj"])
def test_what_is_exported_in_transformers(kind, job, ids, expected, tmp_path):
    assert main(["export", kind, str(job), str(tmp_path / "x"), *MODULE]) == 0
    actual, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "x", output_loading_info=True
    )
    assert not any(report.values()), report
    assert type(actual).__name__ == {"hf": "CodeGen", "gptj": "GPTJ"}[kind] + "ForCausalLM"
    assert_close(logits(actual, ids), expected)


def test_jaxformer_in_pax(job, ids, expected, tmp_path):
    """The same weights as eight cores of a TPU v3 would have left them."""
    tree = read_variables(job / CHECKPOINT)["params"]["lm"]
    dims = layouts.Dimensions.of(SIZE, embedding_bias=True)
    parameters = in_memory.to_jaxformer(tree, dims, mp_num=8)
    bias = np.random.default_rng(0).standard_normal(SIZE.model_dims, np.float32)
    parameters[layouts.EMBEDDING.jaxformer] -= bias
    parameters[layouts.EMBEDDING_BIAS.jaxformer] = bias
    save_jaxformer(parameters, tmp_path / "150000")
    arguments = [*EXPERIMENT, "--mp-num=8", "--output", str(tmp_path / "job")]
    assert main(["import", "jaxformer", str(tmp_path / "150000"), *arguments]) == 0
    assert_close(pax_logits(tmp_path / "job" / CHECKPOINT, ids), expected)
