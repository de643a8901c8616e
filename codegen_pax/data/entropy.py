"""Baselines for a loss: how well unigram and bigram counts predict a corpus.

All values are nats a token, over the positions that a model is scored on: those with a weight above
0, where `ids` is the previous token and `labels` the token to predict. Letters: N such positions,
c() counts of them, V the size of the vocabulary.

- `empirical`: the entropies of the scored rows themselves. unigram H(X) = -sum_x c(x)/N ln c(x)/N;
  bigram H(X'|X) = -sum_(a,b) c(a,b)/N ln c(a,b)/c(a). No model of that order can be better on these
  rows. The bigram has seen them: on a small split most pairs occur once and cost little, so a good
  model may well stay above it.
- `fitted`: the cross-entropies of models counted on other rows, as a trained model is. unigram
  p(x) = (c(x) + 1) / (N + V); bigram by Witten and Bell (1991): p(b|a) = (c(a,b) + t(a) p(b)) /
  (c(a) + t(a)), with t(a) the number of distinct tokens seen after a; p(b) if a was never seen.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from codegen_pax.errors import InvalidValueError

Batches = Iterable[Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Entropies:
    """Entropies of a corpus.

    Attributes:
        unigram: Nats a token of the unigram.
        bigram: Nats a token of the bigram.
        tokens: The number of predicted positions.
    """

    unigram: float
    bigram: float
    tokens: int


def _pairs(batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """Return the (previous, next) tokens of all positions with weight above 0, int64 [N] each."""
    previous, following = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for batch in batches:
        is_scored = np.asarray(batch["weights"]) > 0
        previous.append(np.asarray(batch["ids"])[is_scored].astype(np.int64))
        following.append(np.asarray(batch["labels"])[is_scored].astype(np.int64))
    pairs = np.concatenate(previous), np.concatenate(following)
    if not pairs[0].size:
        raise InvalidValueError(
            "no position to measure: found 0 with a weight above 0, expected at least 1"
        )
    return pairs


def _entropy(counts: np.ndarray) -> float:
    """Return the entropy, in nats, of the distribution with these counts."""
    probabilities = counts / counts.sum()
    return float(-(probabilities * np.log(probabilities)).sum())


def empirical(batches: Batches) -> Entropies:
    """Return the entropies of the scored rows themselves.

    Args:
        batches: Mappings with `ids`, `labels` and `weights`, each of one shape ([B, T] or other).

    Raises:
        ValueError: No position has a weight above 0.
    """
    previous, following = _pairs(batches)
    unigram = _entropy(np.unique(following, return_counts=True)[1])
    joint = _entropy(np.unique(previous << 32 | following, return_counts=True)[1])
    context = _entropy(np.unique(previous, return_counts=True)[1])
    return Entropies(unigram, joint - context, previous.size)  # H(X'|X) = H(X, X') - H(X)


def fitted(training: Batches, scored: Batches, vocab_size: int) -> Entropies:
    """Return the cross-entropies on `scored` of a unigram and a bigram counted on `training`.

    Args:
        training: The rows to count, as for `empirical`.
        scored: The rows to score.
        vocab_size: V.

    Raises:
        ValueError: Either has no position with a weight above 0.
    """
    previous, following = _pairs(training)
    unigram_counts = np.bincount(following, minlength=vocab_size)
    context_counts = np.bincount(previous, minlength=vocab_size)
    bigrams, bigram_counts = np.unique(previous << 32 | following, return_counts=True)
    num_successors = np.bincount(bigrams >> 32, minlength=vocab_size)  # distinct, of each token

    previous, following = _pairs(scored)
    p_unigram = (unigram_counts[following] + 1) / (unigram_counts.sum() + vocab_size)
    pairs = previous << 32 | following
    index = np.minimum(np.searchsorted(bigrams, pairs), bigrams.size - 1)
    pair_counts = np.where(bigrams[index] == pairs, bigram_counts[index], 0)
    # In an unseen context, one pseudo-count leaves the unigram alone.
    pseudo_counts = np.maximum(num_successors[previous], 1)
    p_bigram = (pair_counts + pseudo_counts * p_unigram) / (
        context_counts[previous] + pseudo_counts
    )
    return Entropies(
        float(-np.log(p_unigram).mean()), float(-np.log(p_bigram).mean()), previous.size
    )
