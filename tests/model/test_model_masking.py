"""What may see what, and what is learned from: by lengths and documents, never by token ids."""

import functools

import jax
import numpy as np
import pytest
import torch
from praxis import base_layer

from tests.model.random_models import (
    Shape,
    reference,
    reference_logits,
    relative_difference,
    training_batch,
    training_model,
    variables,
)

SHAPE = Shape(2, 4, 8, 4, vocab_size=47, batch=3, length=20)
Z_LOSS = 1e-2


@pytest.fixture(scope="module")
def network():
    """transformers' network."""
    return reference(SHAPE, seed=1)


@pytest.fixture(scope="module")
def weights(network):
    """The same weights in Pax."""
    return variables(network, SHAPE)


@functools.cache
def program(do_eval: bool):
    """Compiles what gives the metrics and the predictions of a batch."""
    codegen = training_model(SHAPE, z_loss=Z_LOSS)

    def both(codegen, batch):
        predictions = codegen.compute_predictions(batch)
        return codegen.compute_loss(predictions, batch)[0], predictions

    @jax.jit
    def run(weights, batch):
        context = base_layer.JaxContext.HParams(do_eval=do_eval)
        with base_layer.JaxContext.new_context(hparams=context):
            out, _ = codegen.apply(
                {"params": {"lm": weights}}, batch, method=both, mutable=["aux_loss", "summaries"]
            )
        return out

    return run


def run(weights, batch, *, do_eval: bool):
    return program(do_eval)(weights, batch)


def wanted_losses(network, batch) -> tuple[float, float]:
    """Cross-entropy and z-loss by transformers and torch, over the positions that weigh 1."""
    logits = torch.tensor(reference_logits(network, batch.ids))[torch.tensor(batch.weights) > 0]
    labels = torch.tensor(batch.labels[batch.weights > 0], dtype=torch.long)
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels)
    return float(cross_entropy), float(Z_LOSS * (torch.logsumexp(logits, -1) ** 2).mean())


def rows_with_exclamations() -> np.ndarray:
    """Rows [B, T + 1] in which id 0, '!', stands first, last, inside and on end."""
    ids = np.concatenate([SHAPE.random_ids(), SHAPE.random_ids(seed=9)[:, :1]], axis=1)
    ids[0, [0, 1, 2, 7, -1]] = 0
    ids[1, 5:15] = 0
    ids[2, :] = 0
    return ids


@pytest.mark.parametrize("do_eval", [False, True], ids=["training", "evaluation"])
def test_exclamation_mark_keeps_its_loss(do_eval, network, weights):
    batch = training_batch(rows_with_exclamations())
    metrics, _ = run(weights, batch, do_eval=do_eval)
    cross_entropy, z_loss = wanted_losses(network, batch)
    assert metrics.num_predictions[0] == SHAPE.batch * SHAPE.length
    assert metrics.avg_xent[0] == pytest.approx(cross_entropy, rel=1e-5)
    assert metrics.log_pplx[0] == metrics.avg_xent[0]
    assert metrics.aux_loss[0] == pytest.approx(z_loss, rel=1e-5)
    assert metrics.total_loss[0] == pytest.approx(cross_entropy + z_loss, rel=1e-5)


def test_exclamation_mark_is_attended_to(network, weights):
    batch = training_batch(rows_with_exclamations())
    _, predictions = run(weights, batch, do_eval=True)
    assert relative_difference(predictions.logits, reference_logits(network, batch.ids)) < 1e-4


def test_only_weighted_positions_are_learned_from(network, weights):
    batch = training_batch(rows_with_exclamations())
    batch.weights[0, :9] = 0
    batch.weights[1, -3:] = 0
    metrics, _ = run(weights, batch, do_eval=False)
    cross_entropy, z_loss = wanted_losses(network, batch)
    assert metrics.num_predictions[0] == SHAPE.batch * SHAPE.length - 12
    assert metrics.avg_xent[0] == pytest.approx(cross_entropy, rel=1e-5)
    assert metrics.aux_loss[0] == pytest.approx(z_loss, rel=1e-5)


def padded(ids: np.ndarray, lengths: np.ndarray, filler: int):
    """A batch of whole rows with `filler` after the first `lengths` tokens of each."""
    batch = training_batch(ids)
    is_padding = np.arange(SHAPE.length) >= lengths[:, np.newaxis]
    batch.ids = np.where(is_padding, filler, batch.ids)
    batch.paddings = is_padding.astype(np.float32)
    batch.weights = 1.0 - batch.paddings
    batch.segment_ids = 1 - is_padding.astype(np.int32)
    return batch


def test_padding_changes_no_real_position(network, weights):
    ids, lengths = rows_with_exclamations(), np.array([7, 20, 1])
    batches = [padded(ids, lengths, filler) for filler in (0, 31)]
    actual = [run(weights, batch, do_eval=False) for batch in batches]
    is_real = batches[0].paddings == 0
    logits = [np.asarray(predictions.logits)[is_real] for _, predictions in actual]
    np.testing.assert_array_equal(*logits)
    for row, length in enumerate(lengths):
        alone = reference_logits(network, ids[row : row + 1, :length])[0]
        assert relative_difference(actual[0][1].logits[row, :length], alone) < 1e-4
    cross_entropy, _ = wanted_losses(network, batches[0])
    assert [m.num_predictions[0] for m, _ in actual] == [28, 28]
    assert [m.avg_xent[0] for m, _ in actual] == pytest.approx([cross_entropy] * 2, rel=1e-5)


# Documents packed into each row; the first row's third ends in padding.
PACKED = [[8, 5, 4], [1, 19], [20]]


def packed(ids: np.ndarray):
    """A batch of rows [B, T + 1] cut into documents."""
    batch = training_batch(ids)
    for row, lengths in enumerate(PACKED):
        lengths = [*lengths, SHAPE.length - sum(lengths)]
        numbers = [*range(1, len(lengths)), 0]
        batch.segment_ids[row] = np.repeat(numbers, lengths)
        batch.segment_pos[row] = np.concatenate([np.arange(n) for n in lengths])
    batch.paddings = (batch.segment_ids == 0).astype(np.float32)
    batch.weights = 1.0 - batch.paddings
    return batch


def documents() -> list[tuple[int, slice]]:
    """The row and the columns of each document."""
    return [
        (row, slice(sum(lengths[:i]), sum(lengths[: i + 1])))
        for row, lengths in enumerate(PACKED)
        for i in range(len(lengths))
    ]


def test_packed_documents_equal_separate_ones(network, weights):
    batch = packed(rows_with_exclamations())
    _, predictions = run(weights, batch, do_eval=False)
    for row, columns in documents():
        alone = batch.ids[row, columns]
        # One row holds the document from its first column on, the others whatever.
        ids = rows_with_exclamations()
        ids[0, : len(alone)] = alone
        lengths = np.array([len(alone), SHAPE.length, SHAPE.length])
        _, separate = run(weights, padded(ids, lengths, filler=0), do_eval=False)
        actual = np.asarray(predictions.logits[row, columns])
        assert relative_difference(actual, np.asarray(separate.logits[0, : len(alone)])) < 1e-5
        assert relative_difference(actual, reference_logits(network, alone[np.newaxis])[0]) < 1e-4


def test_packed_documents_do_not_see_each_other(weights):
    batch = packed(rows_with_exclamations())
    before = np.asarray(run(weights, batch, do_eval=False)[1].logits)
    for row, columns in documents():
        changed = packed(rows_with_exclamations())
        changed.ids[row, columns] = (changed.ids[row, columns] + 1) % SHAPE.vocab_size
        after = np.asarray(run(weights, changed, do_eval=False)[1].logits)
        touched = np.zeros(batch.ids.shape, bool)
        touched[row, columns] = True
        assert np.all(np.any(before[touched] != after[touched], axis=-1))
        is_other = ~touched & (batch.segment_ids > 0)
        np.testing.assert_array_equal(before[is_other], after[is_other])
