"""What a loss is measured against: how well counts of one or two tokens predict a corpus.

All values are nats a token, over the positions that a model is scored on: weight above 0, `ids` the
token before and `labels` the token to predict. Letters: N such positions, c() counts of them, V the
size of the vocabulary.

- `empirical`: the entropies of the very rows that are scored. unigram H(X) = -sum_x c(x)/N ln
  c(x)/N; bigram H(X'|X) = -sum_(a,b) c(a,b)/N ln c(a,b)/c(a). No model of that order can be better
  on these rows, and the bigram has seen them: on a small split most pairs occur once and cost
  little, so a good model may well stay above it.
- `fitted`: the cross entropies of models counted on other rows, as a trained model is. unigram
  p(x) = (c(x) + 1) / (N + V); bigram by Witten and Bell (1991): p(b|a) = (c(a,b) + t(a) p(b)) /
  (c(a) + t(a)), t(a) the number of distinct tokens seen after a; where a was never seen, p(b).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np

from codegen_pax.errors import InvalidValueError

Batches = Iterable[Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Entropies:
    """Nats a token of the unigram and the bigram, over `tokens` predicted positions."""

    unigram: float
    bigram: float
    tokens: int


def _pairs(batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """(token before, token to predict), int64 [N] each, of all positions with weight above 0."""
    before, after = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for batch in batches:
        scored = np.asarray(batch["weights"]) > 0
        before.append(np.asarray(batch["ids"])[scored].astype(np.int64))
        after.append(np.asarray(batch["labels"])[scored].astype(np.int64))
    joined = np.concatenate(before), np.concatenate(after)
    if not joined[0].size:
        raise InvalidValueError(
            "no position to measure: found 0 with a weight above 0, wanted at least 1"
        )
    return joined


def _entropy(counts: np.ndarray) -> float:
    """Nats of the distribution with these counts."""
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def empirical(batches: Batches) -> Entropies:
    """Entropies of the scored rows themselves.

    Args:
      batches: mappings with `ids`, `labels` and `weights`, each of one shape ([B, T] or any other).

    Raises ValueError if no position has a weight above 0.
    """
    before, after = _pairs(batches)
    unigram = _entropy(np.unique(after, return_counts=True)[1])
    joint = _entropy(np.unique(before << 32 | after, return_counts=True)[1])
    context = _entropy(np.unique(before, return_counts=True)[1])
    return Entropies(unigram, joint - context, before.size)  # H(X'|X) = H(X, X') - H(X)


def fitted(training: Batches, scored: Batches, vocab_size: int) -> Entropies:
    """Cross entropies on `scored` of a unigram and a bigram counted on `training`.

    Args:
      training: the rows to count, as for `empirical`.
      scored: the rows to score.
      vocab_size: V.

    Raises ValueError if either has no position with a weight above 0.
    """
    before, after = _pairs(training)
    counts = np.bincount(after, minlength=vocab_size)
    contexts = np.bincount(before, minlength=vocab_size)
    pairs, pair_counts = np.unique(before << 32 | after, return_counts=True)
    kinds = np.bincount(pairs >> 32, minlength=vocab_size)  # distinct tokens after each

    before, after = _pairs(scored)
    p_unigram = (counts[after] + 1) / (counts.sum() + vocab_size)
    wanted = before << 32 | after
    place = np.minimum(np.searchsorted(pairs, wanted), pairs.size - 1)
    seen = np.where(pairs[place] == wanted, pair_counts[place], 0)
    # One pseudo-count in an unseen context leaves the unigram alone there.
    pseudo = np.maximum(kinds[before], 1)
    p_bigram = (seen + pseudo * p_unigram) / (contexts[before] + pseudo)
    return Entropies(float(-np.log(p_unigram).mean()), float(-np.log(p_bigram).mean()), before.size)
