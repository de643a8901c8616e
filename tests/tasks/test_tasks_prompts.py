"""What a run decodes: by language, a phase's own, a file's; and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import seqio

import codegen
from codegen_pax.data.rules.languages import LANGUAGES
from codegen_pax.text.instruction_format import instruction_prompt
from codegen_pax.text.vocabulary import vocabulary
from experiments.declaration import find_declaration
from experiments.phases import PHASES, Phase
from experiments.settings import Settings
from tasks import prompts
from tasks.prompt_texts import BY_LANGUAGE, NANO_PROMPTS, PROSE

RUST = Phase("Rust", languages=("rust",), start="Mono", tokens=10**9)


def decoded(phase, file=""):
    """The texts that Pax is given, with their seqio task's name."""
    name = prompts.for_phase(phase, file=file).register()
    words = vocabulary(str(phase.vocabulary))
    dataset = seqio.TaskRegistry.get(name).get_dataset(None, split="validation", shuffle=False)
    return name, [words.decode(one["inputs"]) for one in dataset.as_numpy_iterator()]


def test_the_published_phases_decode_what_they_are_for():
    assert decoded(PHASES["Mono"]) == ("codegen_nano_prompts", list(NANO_PROMPTS))
    assert decoded(PHASES["NL"]) == ("codegen_nano_prompts_nl", list(PROSE))
    name, texts = decoded(PHASES["Instruct"])
    assert name == "codegen_nano_prompts_instruct"
    assert texts[0] == instruction_prompt("Return the n-th Fibonacci number.", "def fibonacci(n):")
    name, texts = decoded(PHASES["Multi"])
    order = ("python", "java", "javascript", "go", "cpp", "rust", "python", "java")
    turns = [BY_LANGUAGE[language][turn >= 6] for turn, language in enumerate(order)]
    assert name == "codegen_prompts_python_java_javascript_go_cpp_rust" and texts == turns
    for phase in PHASES:
        (actual,) = getattr(codegen, f"CodeGen2B{phase}")().decode_datasets()
        assert actual.mixture_name == prompts.for_phase(PHASES[phase]).register()


@pytest.mark.parametrize("vocabulary_name", ["codegen", "gpt2", "codegen_2048"])
def test_every_language_has_eight_short_prompts(vocabulary_name):
    words = vocabulary(vocabulary_name)
    for language in LANGUAGES:
        for answers in (False, True):
            actual = prompts.for_languages((language,), vocabulary_name, answers)
            assert len({*actual.texts}) == len(actual.texts) == 8
            texts = map(instruction_prompt, actual.texts) if answers else actual.texts
            assert max(len(words.encode_document(text)) for text in texts) <= 64


def test_a_phase_of_many_languages_has_a_prompt_of_each():
    phase = replace(RUST, languages=tuple(LANGUAGES))
    actual = prompts.for_phase(phase)
    assert actual.texts == tuple(BY_LANGUAGE[language][0] for language in LANGUAGES)
    assert BY_LANGUAGE.keys() == LANGUAGES.keys()
    go = prompts.for_phase(replace(RUST, languages=("go",), loss_on="answer"))
    assert go.example == "Return the n-th Fibonacci number, in Go."
    assert go.register() == "codegen_prompts_go_instruct"


def test_a_new_language_is_one_entry_of_its_table(monkeypatch):
    monkeypatch.delitem(BY_LANGUAGE, "lua")
    actual = prompts.for_phase(replace(RUST, languages=("lua",)))
    assert actual.example == "-- Return the n-th Fibonacci number." and len(actual.texts) == 8


def test_a_phase_has_prompts_of_its_own():
    phase = replace(RUST, prompts=("\n  impl Stack {\n", "fn"))
    name, texts = decoded(phase)
    assert texts == ["\n  impl Stack {\n", "fn"]
    assert prompts.for_phase(phase).example == "  impl Stack {"
    assert name != decoded(replace(phase, prompts=("fn",)))[0]


TEXT = "contract Token {\r\n    uint x;\r\n\r\n---  \nfunction f(\n---\n"
LINES = [
    '"contract A {\\n"',
    "",
    '{"task_id": "HumanEval/0", "prompt": "def f():\\n    "}',
]
INSTRUCTIONS = [
    '{"instruction": "Add.", "input": "def add(a, b):"}',
    '{"instruction": "Stop.", "input": null}',
    '{"prompt": "Go."}',
    '"Wait."',
]


@pytest.mark.parametrize(
    ("phase", "name", "body", "expected"),
    [
        ("Mono", "a.txt", TEXT, ["contract Token {\n    uint x;\n", "function f("]),
        ("Mono", "a.sol", "\ufeffcontract A {", ["contract A {"]),
        ("Mono", "a.jsonl", "\n".join(LINES), ["contract A {\n", "def f():\n    "]),
        (
            "Instruct",
            "b.jsonl",
            "\n".join(INSTRUCTIONS),
            [
                instruction_prompt("Add.", "def add(a, b):"),
                *map(instruction_prompt, ("Stop.", "Go.", "Wait.")),
            ],
        ),
        ("Instruct", "b.txt", "Add.\n---\nStop.\n", [*map(instruction_prompt, ("Add.", "Stop."))]),
    ],
)
def test_a_file_of_prompts_is_decoded_instead(phase, name, body, expected, tmp_path):
    path = tmp_path / name
    path.write_bytes(body.encode())
    task, texts = decoded(PHASES[phase], str(path))
    assert texts == expected
    experiment = getattr(codegen, f"CodeGen350M{phase}")(Settings(prompts=str(path)))
    (config,) = experiment.decode_datasets()
    assert config.mixture_name == task and config.batch_size == 8


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("none.txt", None, "there is no such file"),
        ("a.txt", b"\n---\n\n", "has no prompt"),
        ("a.txt", b"", "has no prompt"),
        ("a.txt", b"x = \xff", "is not UTF-8"),
        ("a.jsonl", b'"x"\n{"prompt":', "line 2 is not JSON"),
        ("a.jsonl", b'{"text": "x"}', "expected a string, or an object with 'prompt'"),
        ("a.jsonl", b'{"instruction": "Add."}', "expected a string, or an object with 'prompt'"),
        ("a.jsonl", b'{"prompt": ""}', "line 1: found"),
        ("a.jsonl", b"[1]", "line 1: found '[1]'"),
        ("a.jsonl", rb'"\ud800"', "line 1: found"),
        ("a.txt", b"x\n---\n" + b"y = 1\n" * 20, "prompt 2, 'y = 1\\ny = 1\\n"),
    ],
)
def test_an_invalid_file_of_prompts_is_refused_in_one_line(name, body, message, tmp_path):
    path = tmp_path / name
    if body is not None:
        path.write_bytes(body)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        prompts.for_phase(PHASES["Mono"], file=str(path)).register()
    actual = str(error.value)
    assert message in actual and f"CODEGEN_PROMPTS={path}" in actual and "\n" not in actual


def test_a_prompt_that_is_too_long_is_named():
    long = replace(RUST, prompts=("fn main() {", "let x = 1;\n" * 20))
    message = r"phase Rust: prompt 2, 'let x = 1;.*', has \d+ tokens; expected at most 64"
    with pytest.raises(ValueError, match=message):
        prompts.for_phase(long).register()


def test_the_hint_of_a_run_is_a_prompt_of_its_phase(tmp_path):
    from codegen_pax.cli.core import training
    from codegen_pax.cli.core.terminal import Terminal
    from codegen_pax.runs.summary import Summary

    numbers = dict.fromkeys(Summary.__dataclass_fields__, 1)
    mono = find_declaration("CodeGenNanoMono")
    solidity = replace(mono, phase=replace(mono.phase, languages=("solidity",)))
    own = tmp_path / "own.jsonl"
    own.write_text(json.dumps("it's\nhere"))
    folder = Path("runs", "[bold]")  # short: a table wraps what is long
    for declaration, file, options, hint in (
        (mono, None, "", "'def fibonacci(n):'"),
        (solidity, None, "", "'contract Counter {'"),
        # Nothing of its module is imported unless it is named.
        (replace(mono, module="mine"), None, "--module mine ", "'def fibonacci(n):'"),
        (find_declaration("CodeGen2BInstruct"), None, "", "'Return the n-th Fibonacci number.'"),
        (mono, str(own), "", "'it'\"'\"'s'"),
    ):
        settings = Settings(prompts=file)
        console = Terminal(record=True, width=60)
        summary = Summary(**numbers | {"experiment": declaration.name})
        training.print_summary(summary, declaration, folder, 1.0, console, settings)
        output = console.export_text()
        assert output.endswith(f"Try: codegen-pax sample {options}'{folder}' {hint}\n")
        assert output.count("[bold]") == 5  # in the table too
