"""The one instruction format: the same for training, decoding and export.

    ### Instruction:
    Return the sum of two numbers.

    ### Input:
    def add(a, b):

    ### Answer:
    <the answer, then the end of text>

The section `### Input:` is left out where there is no input. A conversation goes on with another
`### Instruction:` after the end of text; a system message stands in front as it is, with an empty
line behind it.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen_pax.errors import InvalidValueError

_INSTRUCTION, _INPUT, _ANSWER = "### Instruction:\n", "### Input:\n", "### Answer:\n"


def user_content(instruction: str, given: str = "") -> str:
    """What a user says who gives an instruction and what it is applied to."""
    # Code keeps its indentation: only the line breaks around it go.
    applied = f"\n\n{_INPUT}" + given.strip("\n").rstrip() if given.strip() else ""
    return instruction.strip() + applied


def instruction_prompt(instruction: str, given: str = "") -> str:
    """What the model is shown: the instruction, what it is applied to, and an open answer."""
    return f"{_INSTRUCTION}{user_content(instruction, given)}\n\n{_ANSWER}"


def instruction_answer(answer: str) -> str:
    """What the model is to write after the prompt, without the end of text that closes it."""
    return answer.strip("\n") + "\n"


def conversation(turns: Sequence[tuple[str, str]]) -> list[tuple[str, bool]]:
    """A conversation as the segments of its row.

    Args:
      turns: (role, content) each: perhaps 'system' first, then 'user' and 'assistant' by turns, and
        'assistant' last.

    Returns:
      (text, is_answer) each. Who tokenises puts the id of the end of text behind every answer, as
      a part of it; the loss is on answers alone. Of one pair the texts are `instruction_prompt` and
      `instruction_answer`.

    Raises:
      ValueError: another role or order, or a turn that says nothing.
    """
    segments: list[tuple[str, bool]] = []
    system = ""
    for number, (role, content) in enumerate(turns):
        if not content.strip():
            raise InvalidValueError(f"turn {number} ({role}) of a conversation is empty")
        if role == "system" and number == 0:
            system = content.strip() + "\n\n"
            continue
        wanted = "assistant" if len(segments) % 2 else "user"
        if role != wanted:
            raise InvalidValueError(
                f"turn {number} of a conversation: found role {role!r}, wanted {wanted!r}"
            )
        if role == "user":
            before = system if not segments else ""
            segments.append((before + instruction_prompt(content), False))
        else:
            segments.append((instruction_answer(content), True))
    if not segments or len(segments) % 2:
        raise InvalidValueError(
            "a conversation must end with an answer: found none after the last user"
        )
    return segments
