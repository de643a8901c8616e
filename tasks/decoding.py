"""What a run decodes: the prompts of its phase, or those of a file.

A file whose name ends in `.jsonl` has one prompt a line: a string; or an object with `prompt`, or
with `instruction` and perhaps `input` for a run that has learnt to answer. Any other file is text,
its prompts between lines of three hyphens:

    contract Token {
        mapping(address => uint256) balances;
    ---
    function transfer(

The line break before the hyphens is no part of a prompt: one that ends with a line break has an
empty line there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import seqio
import tensorflow as tf
from etils import epath

from codegen_pax.data import installed
from codegen_pax.data.rules.languages import LANGUAGES
from codegen_pax.errors import InvalidValueError, MissingFileError
from codegen_pax.text.instruction_format import instruction_prompt, user_content
from codegen_pax.text.vocabulary import vocabulary
from tasks.definition import prompt_task
from tasks.prompts import BY_LANGUAGE, NANO_INSTRUCTIONS, PROSE

# A file of prompts instead of the phase's own.
PROMPTS_VARIABLE = "CODEGEN_PROMPTS"

COUNT = 8  # of the prompts of the tables; more where a phase has more languages
PROMPT_LENGTH = 64  # P: tokens of a prompt at most

_SEPARATOR = "---"
# Of the four published phases.
_NAMES = {
    ("python", "codegen", False): "codegen_nano_prompts",
    ("python", "codegen", True): "codegen_nano_prompts_instruct",
    ("prose", "gpt2", False): "codegen_nano_prompts_nl",
    ("python", "gpt2", True): "codegen_nano_prompts_nl_instruct",
}


class Phase(Protocol):
    """What of a phase decides its prompts; see `experiments.phases.Phase`."""

    name: str
    languages: Sequence[str]
    prompts: Sequence[str]
    vocabulary: str
    loss_on: str


@dataclass(frozen=True)
class Prompts:
    """Prompts, as a person writes them.

    Attributes:
      texts: to continue, or instructions to answer.
      answers: whether they are instructions.
      vocabulary: the name of the one they are tokenised by.
      kind: the languages, 'prose', or a hash of texts that are in no table.
      where: they are from, for errors; '' for those of the tables.
    """

    texts: tuple[str, ...]
    answers: bool
    vocabulary: str
    kind: str
    where: str = ""

    @property
    def example(self) -> str:
        """One line to try."""
        return next(line for line in self.texts[0].splitlines() if line.strip())

    def task(self) -> str:
        """The name of their seqio task, registered by the first call.

        Raises:
          ValueError: a prompt of one's own has more than `PROMPT_LENGTH` tokens.
        """
        ending = f"{'_gpt2' * (self.vocabulary == 'gpt2')}{'_instruct' * self.answers}"
        key = (self.kind, self.vocabulary, self.answers)
        name = _NAMES.get(key, f"codegen_prompts_{self.kind}{ending}")
        if name not in seqio.TaskRegistry.names():
            texts = [instruction_prompt(text) if self.answers else text for text in self.texts]
            if self.where:
                self._check_lengths(texts)
            prompt_task(name, _Texts(texts), self.vocabulary)
        return name

    def _check_lengths(self, texts: Sequence[str]) -> None:
        for number, text in enumerate(texts, 1):
            length = len(vocabulary(self.vocabulary).encode_document(text))
            if length > PROMPT_LENGTH:
                raise InvalidValueError(
                    f"{self.where}: prompt {number}, {self.texts[number - 1][:40]!r}, has {length} "
                    f"tokens; wanted at most {PROMPT_LENGTH}"
                )


def prompts(phase: Phase, file: str = "") -> Prompts:
    """What a run of a phase decodes: a file's prompts, else its own, else those of its languages.

    Args:
      phase: what is run.
      file: of prompts, local or a URL; none if empty.

    Raises:
      FileNotFoundError: the file is not there.
      ValueError: it is none of prompts (see above).
    """
    answers, vocabulary_name = phase.loss_on == "answer", str(phase.vocabulary)
    if not (file or phase.prompts):
        return of_languages(phase.languages, vocabulary_name, answers)
    texts = _read(file, answers) if file else tuple(phase.prompts)
    where = f"{PROMPTS_VARIABLE}={file}" if file else f"phase {phase.name}"
    kind = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
    return Prompts(texts, answers, vocabulary_name, kind, where)


def of_languages(languages: Sequence[str], vocabulary_name: str, answers: bool) -> Prompts:
    """Prompts of the tables: of each language some; of none, prose for GPT-2's vocabulary, else
    Python."""
    if not (languages or answers) and vocabulary_name == "gpt2":
        return Prompts(PROSE, answers, vocabulary_name, "prose")
    languages = languages or ("python",)
    of_each = [(_instructions if answers else _beginnings)(language) for language in languages]
    turns = [text for texts in zip(*of_each, strict=True) for text in texts]
    texts = tuple(turns[: max(COUNT, len(languages))])
    return Prompts(texts, answers, vocabulary_name, "_".join(languages))


def _beginnings(language: str) -> list[str]:
    """Eight beginnings in a language; of one without any of its own, comments."""
    comment = LANGUAGES[language].comment
    comments = [f"{comment} {instruction}\n" for instruction, _ in NANO_INSTRUCTIONS]
    return list(BY_LANGUAGE.get(language, comments))


def _instructions(language: str) -> list[str]:
    """Eight instructions for a language."""
    if language == "python":
        return [user_content(*instruction) for instruction in NANO_INSTRUCTIONS]
    label = LANGUAGES[language].label
    return [f"{instruction.removesuffix('.')}, in {label}." for instruction, _ in NANO_INSTRUCTIONS]


def _read(file: str, answers: bool) -> tuple[str, ...]:
    path = epath.Path(file)
    if not path.is_file():
        raise MissingFileError(f"{PROMPTS_VARIABLE}={file}: there is no such file")
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise InvalidValueError(f"{PROMPTS_VARIABLE}={file} is not UTF-8: {error}") from None
    lines = text.removesuffix("\n").split("\n")
    if path.suffix == ".jsonl":
        places = [
            f"{PROMPTS_VARIABLE}={file}, line {number}" for number in range(1, 1 + len(lines))
        ]
        found = [
            _of_record(place, line, answers)
            for place, line in zip(places, lines, strict=True)
            if line.strip()
        ]
    else:
        found = [block for block in _blocks(lines) if block.strip()]
    if not found:
        raise InvalidValueError(f"{PROMPTS_VARIABLE}={file} has no prompt")
    return tuple(found)


def _blocks(lines: Sequence[str]) -> list[str]:
    """What stands between lines of three hyphens."""
    blocks: list[list[str]] = [[]]
    for line in lines:
        if line.rstrip() == _SEPARATOR:
            blocks.append([])
        else:
            blocks[-1].append(line)
    return ["\n".join(block) for block in blocks]


def _of_record(place: str, line: str, answers: bool) -> str:
    """The prompt of one line of JSON."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"{place} is no JSON: {error}") from None
    wanted = "a string, or an object with 'prompt'"
    found = record.get("prompt") if isinstance(record, dict) else record
    if answers:
        wanted += " or 'instruction'"
        if isinstance(record, dict) and "instruction" in record:
            pair = (record["instruction"], record.get("input") or "")
            found = user_content(*pair) if all(isinstance(text, str) for text in pair) else None
    # JSON can spell half a character, which UTF-8 has not.
    whole = isinstance(found, str) and found == found.encode(errors="ignore").decode()
    if not whole or not found.strip():
        raise InvalidValueError(f"{place}: found {line.strip()[:40]!r}; wanted {wanted}")
    return found


class _Texts(seqio.FunctionDataSource):
    """Prompts, in order; no reference answers."""

    def __init__(self, texts: Sequence[str]):
        def read(split: str, shuffle_files: bool, seed: int | None = None) -> tf.data.Dataset:
            return tf.data.Dataset.from_tensor_slices(
                {"inputs": list(texts), "targets": [""] * len(texts)}
            )

        super().__init__(read, splits=[installed.VALIDATION])


for _vocabulary in ("codegen", "gpt2"):
    for _answers in (False, True):
        of_languages((), _vocabulary, _answers).task()
