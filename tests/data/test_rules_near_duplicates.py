"""Which texts are near duplicates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codegen_pax.data.rules import near_duplicates


def joined(text, other):
    """Whether two texts alone would be one cluster."""
    first, second = near_duplicates.signature(text), near_duplicates.signature(other)
    meet = set(near_duplicates.bands(first)) & set(near_duplicates.bands(second))
    return bool(meet) and near_duplicates.are_similar(first[None], second[None]).item()


def pairs_of(similarity, count):
    """Pairs of texts of 204 words, 200 shingles, of this Jaccard similarity."""
    shared = round(2 * 200 * similarity / (1 + similarity))
    for number in range(count):
        text = [f"word{number}x{n}" for n in range(204)]
        other = text[: shared + 4] + [f"other{number}x{n}" for n in range(200 - shared)]
        yield " ".join(text), " ".join(other)


# Bounds around what the docstring states, five standard errors wide.
@pytest.mark.parametrize(
    ("similarity", "least", "most"),
    [(0.95, 0.99, 1), (0.9, 0.9, 1), (0.85, 0.38, 0.67), (0.8, 0.01, 0.16), (0.7, 0, 0)],
)
def test_pairs_are_joined_by_their_similarity(similarity, least, most):
    actual = [joined(*pair) for pair in pairs_of(similarity, 300)]
    assert least <= sum(actual) / len(actual) <= most


def test_other_operators_make_another_text():
    text = "".join(f"x{n} = a{n} + b{n}\n" for n in range(40))
    assert joined(text, text) and not joined(text, text.replace("+", "-"))
    assert near_duplicates.bands(near_duplicates.signature("one two"))


@pytest.mark.parametrize("text", ["", "\n", " \t\n"])
def test_a_text_without_a_token_is_like_no_other(text):
    assert near_duplicates.bands(near_duplicates.signature(text)) == []


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=20))
def test_of_each_cluster_the_first_is_kept(pairs):
    clusters = [{key} for key in range(13)]  # the plainest way: join sets until none is left
    for left, right in pairs:
        joined = [cluster for cluster in clusters if cluster & {left, right}]
        clusters = [cluster for cluster in clusters if cluster not in joined]
        clusters.append(set().union(*joined))
    expected = {key for cluster in clusters for key in cluster - {min(cluster)}}
    assert near_duplicates.all_but_first(pairs) == expected
