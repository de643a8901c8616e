"""What is no corpus: the message says what was found, and which option keeps more."""

import pytest

from codegen_pax.data.format import manifest
from codegen_pax.data.prepare import corpus_checks
from codegen_pax.data.prepare.settings import Settings


@pytest.mark.parametrize(
    ("by_rule", "message"),
    [
        ({}, "found 0 in the inputs; out is unfinished"),
        (
            {manifest.IN: [2, 9, 0], "empty": [2, 9, 0]},
            "found 2 in the inputs, dropped 2 by empty;",
        ),
        (
            {manifest.IN: [1, 9, 0], "licence_unknown": [1, 9, 0]},
            "1 by licence_unknown; --licences any keeps those of which no licence is known; out",
        ),
    ],
)
def test_nothing_kept_is_no_corpus(by_rule, message):
    with pytest.raises(corpus_checks.NothingKeptError, match=message):
        corpus_checks.check_kept(by_rule, {}, {}, Settings("bigpython", "out"), "")
