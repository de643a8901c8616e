"""The prompts that a run decodes: those of its phase, or of a file.

A file whose name ends in `.jsonl` has one prompt per line: a string; or an object with `prompt`;
or, for a run that is trained to answer, an object with `instruction` and optionally `input`. Any
other file is text, with a line of three hyphens between prompts:

    contract Token {
        mapping(address => uint256) balances;
    ---
    function transfer(

The line break before the hyphens is not part of the prompt: a prompt that ends with a line break
has an empty line there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import seqio
import tensorflow as tf
from etils import epath

from codegen_pax.data import VALIDATION
from codegen_pax.data.rules.languages import LANGUAGES
from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.text.instruction_format import instruction_prompt, user_content
from codegen_pax.text.vocabulary import vocabulary
from tasks.definition import prompt_task
from tasks.prompt_texts import BY_LANGUAGE, NANO_INSTRUCTIONS, PROSE

# A file of prompts to decode instead of the phase's own.
PROMPTS_VARIABLE = "CODEGEN_PROMPTS"

NUM_PROMPTS = 8  # from the tables; with more languages than this, one per language
PROMPT_LENGTH = 64  # P: the most tokens of a prompt

_SEPARATOR = "---"
# The tasks of the four published phases, by (label, vocabulary, whether they are instructions).
_NAMES = {
    ("python", "codegen_2048", False): "codegen_nano_prompts_2048",
    ("python", "codegen_2048", True): "codegen_nano_prompts_2048_instruct",
    ("prose", "codegen_2048", False): "codegen_nano_prompts_2048_nl",
    ("python", "codegen", False): "codegen_nano_prompts",
    ("python", "codegen", True): "codegen_nano_prompts_instruct",
    ("prose", "gpt2", False): "codegen_nano_prompts_nl",
    ("python", "gpt2", True): "codegen_nano_prompts_nl_instruct",
}


class Phase(Protocol):
    """The fields that determine a phase's prompts; see `experiments.phases.Phase`."""

    @property
    def name(self) -> str:
        """The name of the phase in an experiment's name."""

    @property
    def languages(self) -> Sequence[str]:
        """The languages of its source files."""

    @property
    def prompts(self) -> Sequence[str]:
        """The phase's own prompts; empty for the prompts of its languages."""

    @property
    def vocabulary(self) -> str:
        """The name of its own vocabulary: phases of prose have GPT-2's."""

    @property
    def loss_on(self) -> str:
        """'all' tokens, or the 'answer' alone."""


@dataclass(frozen=True)
class Prompts:
    """Prompts, as a person writes them.

    Attributes:
        texts: Beginnings to continue, or instructions to answer.
        are_instructions: Whether they are instructions.
        vocabulary: The name of the vocabulary that tokenises them.
        label: Their languages, 'prose', or a hash of texts that are not in the tables.
        origin: Where they come from, for errors; '' for those of the tables.
    """

    texts: tuple[str, ...]
    are_instructions: bool
    vocabulary: str
    label: str
    origin: str = ""

    @property
    def example(self) -> str:
        """A single line to try."""
        return next(line for line in self.texts[0].splitlines() if line.strip())

    def register(self) -> str:
        """Register their seqio task, unless it is registered, and return its name.

        Raises:
            ValueError: A prompt that is not of the tables has more than `PROMPT_LENGTH` tokens.
        """
        suffix = f"_{self.vocabulary.removeprefix('codegen_')}" * (self.vocabulary != "codegen")
        suffix += "_instruct" * self.are_instructions
        key = (self.label, self.vocabulary, self.are_instructions)
        name = _NAMES.get(key, f"codegen_prompts_{self.label}{suffix}")
        if name not in seqio.TaskRegistry.names():
            texts = self.texts
            if self.are_instructions:
                texts = tuple(instruction_prompt(text) for text in texts)
            if self.origin:
                self._check_lengths(texts)
            prompt_task(name, PromptSource(texts), self.vocabulary)
        return name

    def _check_lengths(self, texts: Sequence[str]) -> None:
        for number, text in enumerate(texts, 1):
            length = len(vocabulary(self.vocabulary).encode_document(text))
            if length > PROMPT_LENGTH:
                raise InvalidValueError(
                    f"{self.origin}: prompt {number}, {self.texts[number - 1][:40]!r}, has {length}"
                    f" tokens; expected at most {PROMPT_LENGTH}"
                )


class PromptSource(seqio.FunctionDataSource):
    """Prompts in order, without reference answers."""

    def __init__(self, texts: Sequence[str]):
        def read(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
            del split, shuffle_files, seed  # seqio passes them; there is one split, in one order
            return tf.data.Dataset.from_tensor_slices(
                {"inputs": list(texts), "targets": [""] * len(texts)}
            )

        super().__init__(read, splits=[VALIDATION])


def for_phase(
    phase: Phase, vocabulary_name: str | None = None, file: epath.PathLike | None = None
) -> Prompts:
    """Return what a run decodes: a file's prompts, else the phase's, else those of its languages.

    Args:
        phase: The phase of the run.
        vocabulary_name: The vocabulary that tokenises the prompts; None for the phase's own.
        file: A file of prompts, local or a URL; '' for none.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: The file does not have the format that the module describes.
    """
    are_instructions = phase.loss_on == "answer"
    vocabulary_name = str(vocabulary_name or phase.vocabulary)
    if not (file or phase.prompts):
        is_prose = phase.vocabulary == "gpt2" and not (phase.languages or are_instructions)
        if is_prose:
            return Prompts(PROSE, are_instructions, vocabulary_name, "prose")
        return for_languages(phase.languages, vocabulary_name, are_instructions)
    texts = _read_file(file, are_instructions) if file else tuple(phase.prompts)
    origin = f"{PROMPTS_VARIABLE}={file}" if file else f"phase {phase.name}"
    label = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
    return Prompts(texts, are_instructions, vocabulary_name, label, origin)


def for_languages(
    languages: Sequence[str], vocabulary_name: str, are_instructions: bool
) -> Prompts:
    """Return prompts of the tables.

    Args:
        languages: Each gives some of the prompts; Python if there are none.
        vocabulary_name: The vocabulary that tokenises them.
        are_instructions: Whether to return instructions.
    """
    languages = languages or ("python",)
    texts_of_language = _instructions if are_instructions else _beginnings
    by_language = [texts_of_language(language) for language in languages]
    alternating = [text for texts in zip(*by_language, strict=True) for text in texts]
    texts = tuple(alternating[: max(NUM_PROMPTS, len(languages))])
    return Prompts(texts, are_instructions, vocabulary_name, "_".join(languages))


def _beginnings(language: str) -> list[str]:
    """Return eight beginnings in a language; comments if the table lacks the language."""
    comment = LANGUAGES[language].comment
    comments = [f"{comment} {instruction}\n" for instruction, _ in NANO_INSTRUCTIONS]
    return list(BY_LANGUAGE.get(language, comments))


def _instructions(language: str) -> list[str]:
    """Return eight instructions for a language."""
    if language == "python":
        return [user_content(*instruction) for instruction in NANO_INSTRUCTIONS]
    label = LANGUAGES[language].label
    return [f"{instruction.removesuffix('.')}, in {label}." for instruction, _ in NANO_INSTRUCTIONS]


def _read_file(file: epath.PathLike, are_instructions: bool) -> tuple[str, ...]:
    """Return the prompts of a file."""
    path = epath.Path(file)
    if not path.is_file():
        raise MissingFileError(f"{PROMPTS_VARIABLE}={file}: there is no such file")
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"{PROMPTS_VARIABLE}={file} is not UTF-8: {error}") from None
    lines = text.removesuffix("\n").split("\n")
    if path.suffix == ".jsonl":
        prompts = [
            _parse_line(line, f"{PROMPTS_VARIABLE}={file}, line {number}", are_instructions)
            for number, line in enumerate(lines, 1)
            if line.strip()
        ]
    else:
        prompts = [block for block in _split_blocks(lines) if block.strip()]
    if not prompts:
        raise InvalidValueError(f"{PROMPTS_VARIABLE}={file} has no prompt")
    return tuple(prompts)


def _split_blocks(lines: Sequence[str]) -> list[str]:
    """Return the text between lines of three hyphens."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.rstrip() == _SEPARATOR:
            blocks.append([])
        else:
            blocks[-1].append(line)
    return ["\n".join(block) for block in blocks]


def _parse_line(line: str, place: str, are_instructions: bool) -> str:
    """Return the prompt of a line of JSON.

    Args:
        line: The line.
        place: The file and line, for errors.
        are_instructions: Whether the prompt may be an `instruction` with an `input`.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"{place} is not JSON: {error}") from None
    expected = "a string, or an object with 'prompt'"
    text: Any = record.get("prompt") if isinstance(record, dict) else record
    if are_instructions:
        expected += " or 'instruction'"
        if isinstance(record, dict) and "instruction" in record:
            pair = (record["instruction"], record.get("input") or "")
            text = user_content(*pair) if all(isinstance(part, str) for part in pair) else None
    if not isinstance(text, str) or not text.strip() or not _is_unicode(text):
        raise InvalidValueError(f"{place}: found {line.strip()[:40]!r}; expected {expected}")
    return text


def _is_unicode(text: str) -> bool:
    """Return whether UTF-8 can encode a text: JSON can spell half of a surrogate pair."""
    return text == text.encode(errors="ignore").decode()


for _label, _vocabulary, _are_instructions in _NAMES:
    if _label == "prose":
        Prompts(PROSE, _are_instructions, _vocabulary, _label).register()
    else:
        for_languages((), _vocabulary, _are_instructions).register()
