"""Validation is never silently empty: a part that the share leaves without a row gets one."""

import json
from pathlib import Path

import pytest

from codegen_pax.data.format import manifest
from codegen_pax.data.prepare import held_out
from codegen_pax.data.prepare.corpus_checks import NothingKeptError
from codegen_pax.data.prepare.held_out import KeyRange, PartTotals
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.sources import partitions
from tests.data.prepared_corpora import prepare_corpus

T = 16
ENDINGS = {"python": "py", "go": "go", "java": "java", "rust": "rs"}
NUMBERS = {"python": 120, "go": 9, "java": 2, "rust": 1}


def text(language, number):
    """More than a row of it."""
    return "".join(f"{language}{number} = value{number}({n})\n" for n in range(9))


def records(languages, repositories=1_000):
    return [
        {
            "content": text(language, number),
            "path": f"{number}.{ENDINGS[language]}",
            "repo_name": f"{language}/{number % repositories}",
            "license": "mit",
        }
        for language in languages
        for number in range(NUMBERS[language])
    ]


def prepare(folder, rows, corpus="bigquery", at_most=partitions.PARTITION_BYTES, **options):
    """(manifest, file's name -> its bytes)."""
    folder.mkdir()
    (folder / "raw.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    chosen = Settings(corpus, str(folder / "out"), **{"row_length": T, **options})
    made = prepare_corpus(chosen, folder / "raw.jsonl", at_most=at_most)
    paths = [path for path in Path(chosen.output).rglob("*") if path.is_file()]
    return made, {
        str(path.relative_to(chosen.output)): path.read_bytes()
        for path in paths
        if path.name != manifest.FILE and path.suffix != ".parquet"
    }


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    options = {"validation": 0.05, "bucket_bytes": 700}
    return folder, options, prepare(folder / "all", records(ENDINGS), **options)


def tokens(made, part, split):
    return made.counts["rows"][part].get(split, {"tokens": 0})["tokens"]


def test_every_part_with_two_documents_has_rows_on_both_sides(mixed):
    _, _, (made, _) = mixed
    for part, number in NUMBERS.items():
        assert made.rows("train", part) > 0
        assert (made.rows("validation", part) > 0) == (number > 1)
        kept = made.counts["documents"][part]["MIT"]["kept"]
        assert tokens(made, part, "train") + tokens(made, part, "validation") == kept[2]
    # One document fills a row.
    total = made.counts["documents"]["java"]["MIT"]["kept"][2]
    assert tokens(made, "java", "validation") == total // 2
    assert len(made.shards("train", "go")) > 1  # the one that is held out is of one of its buckets


def test_other_parts_stay_as_they_are_and_pieces_make_no_difference(mixed):
    folder, options, (made, files) = mixed
    alone, others = prepare(folder / "python", records(["python"]), **options)
    assert alone.parts["python"] == made.parts["python"]
    assert others == {name: data for name, data in files.items() if name.startswith("python/")}
    # Of the share, and nothing else.
    settings = Settings("bigquery", "", **options)
    expected = {
        number
        for number in range(NUMBERS["python"])
        if settings.validation_key(f"python/{number}", b"") < 0.05 * 2**64
    }
    assert 0 < len(expected) < 30
    held = made.counts["rows"]["python"]["validation"]["tokens"]
    per_document = alone.counts["documents"]["python"]["MIT"]["kept"][2] / NUMBERS["python"]
    assert abs(held / per_document - len(expected)) < 1
    again, same = prepare(folder / "pieces", records(ENDINGS), at_most=5_000, **options)
    assert same == files and again.parts == made.parts


def test_one_repository_of_many_documents_holds_out_one_of_them(tmp_path):
    made, _ = prepare(tmp_path / "one", records(["go"], repositories=1), validation=0.001)
    total = made.counts["documents"]["go"]["MIT"]["kept"][2]
    assert tokens(made, "go", "validation") == total // NUMBERS["go"]
    assert made.rows("validation", "go") > 0


def test_a_document_is_held_out_where_training_keeps_its_only_row(tmp_path):
    small = {"path": "small.go", "repo_name": "go/small", "license": "mit", "content": "a = 1\n"}
    for number in range(4):  # whichever place the large one has
        large = records(["go"])[number]
        made, _ = prepare(tmp_path / f"{number}", [large, small], row_length=64)
        documents = made.counts["documents"]["go"]["MIT"]["kept"][2]
        assert made.rows("train", "go") == 1
        assert 0 < documents - tokens(made, "go", "train") < 64  # the small one


def test_of_two_documents_one_is_held_out_though_both_fill_the_only_row(tmp_path):
    halves = [
        record | {"content": "".join(f"{name}{n} = {n}\n" for n in range(8))}
        for name, record in zip("xy", records(["java"]), strict=True)
    ]
    made, _ = prepare(tmp_path / "mixed", [*records(["go"]), *halves], row_length=64)
    assert tokens(made, "java", "train") > 0 and tokens(made, "java", "validation") > 0
    assert made.rows("train", "java") == 0 and made.rows("train", "go") > 0
    with pytest.raises(NothingKeptError, match=r"in 2 documents .* or --validation 0"):
        prepare(tmp_path / "alone", halves, row_length=64)
    made, _ = prepare(tmp_path / "all", halves, row_length=64, validation=0.0)
    assert made.rows("train", "java") == 1


def test_conversations_hold_out_one(tmp_path):
    pairs = [{"instruction": f"Add {n}.", "output": f"{n}"} for n in range(3)]
    made, _ = prepare(tmp_path / "pairs", pairs, corpus="instruction", validation=0.001)
    assert made.rows("validation") == 1 and made.rows("train") == 2


def part(train, held=(0, 0), repositories=None, documents=None, smallest=None):
    """Totals from (documents, size) of each side."""
    lowest = {True: repositories, False: documents}
    return PartTotals(
        {name: one[0] for name, one in (("train", train), ("validation", held)) if one[0]},
        {name: one[1] for name, one in (("train", train), ("validation", held)) if one[0]},
        {by: places for by, places in lowest.items() if places is not None},
        smallest,
    )


@pytest.mark.parametrize(
    ("totals", "key_range"),
    [
        (part((9, 90), held=(1, 10), documents={5: 9}), None),  # it has its row
        (part((9, 90), held=(1, 4), documents={5: 3, 7: 3, 8: 9}), KeyRange(False, 7)),
        (part((9, 90), repositories={3: 4, 9: 8}, documents={1: 4}), KeyRange(True, 9)),
        (part((9, 90), repositories={3: 60}, documents={1: 4, 2: 7}), KeyRange(False, 2)),
        (part((9, 90)), None),  # no share was asked for
        (
            part((2, 6), documents={1: 2, 2: 4}),
            KeyRange(False, 1),
        ),  # no row to be had: one document
        # The only row is for training, if another document can be held out.
        (part((2, 13), documents={1: 11}, smallest=(2, 7)), KeyRange(False, 7, first=7)),
        (part((2, 12), documents={1: 4, 2: 8}, smallest=(4, 1)), KeyRange(False, 1, first=1)),
        (part((1, 90), documents={1: 90}), None),
        (part((2, 6), held=(1, 2), documents={1: 2, 2: 4}), None),  # it has one
    ],
)
def test_up_to_where_more_is_held_out(totals, key_range):
    settings = Settings("bigquery", "", row_length=10)
    merged = held_out.merge_totals([{"go": totals}, {}], settings)
    assert held_out.extra_key_ranges(merged, settings) == ({"go": key_range} if key_range else {})


def test_the_lowest_of_several_pieces_are_the_lowest_of_all():
    settings = Settings("bigquery", "", row_length=10)
    places = {place: 1 + place % 3 for place in range(40)}
    pieces = [
        {
            "go": part(
                (9, 20), documents=dict([*places.items()][n::3]), repositories={7: 1, 90 + n: 30}
            )
        }
        for n in range(3)
    ]
    halves = [
        held_out.merge_totals(pieces[:1], settings),
        held_out.merge_totals(pieces[1:], settings),
    ]
    for actual in (
        held_out.merge_totals(pieces, settings),
        held_out.merge_totals(halves, settings),
    ):
        assert actual["go"].documents == {"train": 27} and actual["go"].sizes == {"train": 60}
        assert actual["go"].lowest[False] == {0: 1, 1: 2, 2: 3, 3: 1, 4: 2, 5: 3}  # 10 and more
        assert actual["go"].lowest[True] == {7: 3, 90: 30}
