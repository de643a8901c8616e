"""The one instruction format: the same for training, decoding and export.

    ### Instruction:
    Return the sum of two numbers.

    ### Input:
    def add(a, b):

    ### Answer:
    <the answer, then the end of text>

The section `### Input:` is left out where there is no input. A conversation goes on with another
`### Instruction:` after the end of text; a system message stands in front as it is, with an empty
line behind it. Tools are described under `### Tools:` at its end, what a model calls stands under
`### Call:` at the end of an answer, one JSON object a line each, and what a tool gave back follows
under `### Output:` where an instruction would.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen_pax.errors import InvalidValueError

_INSTRUCTION, _INPUT, _ANSWER = "### Instruction:\n", "### Input:\n", "### Answer:\n"
_TOOLS, _CALL, _OUTPUT = "### Tools:\n", "### Call:\n", "### Output:\n"

# role of a turn -> those of the turn before it; None begins a conversation
_BEFORE = {
    "system": (None,),
    "user": (None, "system", "assistant"),
    "tool": ("assistant", "tool"),
    "assistant": ("user", "tool"),
}


def user_content(instruction: str, given: str = "") -> str:
    """What a user says who gives an instruction and what it is applied to."""
    # Code keeps its indentation: only the line breaks around it go.
    applied = f"\n\n{_INPUT}" + given.strip("\n").rstrip() if given.strip() else ""
    return instruction.strip() + applied


def system_content(system: str, tools: str) -> str:
    """What stands in front of a conversation with tools: a message, perhaps '', and the tools."""
    return "\n\n".join(filter(None, [system.strip(), _TOOLS + tools]))


def answer_content(answer: str, calls: Sequence[str]) -> str:
    """What an assistant says, perhaps '', who calls tools."""
    return "\n\n".join(filter(None, [answer.strip("\n").rstrip(), _CALL + "\n".join(calls)]))


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
        'assistant' last. In place of a 'user' behind an answer there may be one 'tool' or several,
        each with what it gave back, which may be nothing.

    Returns:
      (text, is_answer) each. Who tokenises puts the id of the end of text behind every answer, as
      a part of it; the loss is on answers alone. Of one pair the texts are `instruction_prompt` and
      `instruction_answer`.

    Raises:
      ValueError: another role or order, or a turn that says nothing.
    """
    segments: list[tuple[str, bool]] = []
    asked = ""  # since the last answer
    for number, (role, content) in enumerate(turns):
        if not content.strip() and role != "tool":
            raise InvalidValueError(f"turn {number} ({role}) of a conversation is empty")
        before = turns[number - 1][0] if number else None
        if before not in _BEFORE.get(role, ()):
            wanted = " or ".join(repr(one) for one, after in _BEFORE.items() if before in after)
            raise InvalidValueError(
                f"turn {number} of a conversation: found role {role!r}, wanted {wanted}"
            )
        if role == "system":
            asked = content.strip() + "\n\n"
        elif role == "user":
            asked += f"{_INSTRUCTION}{user_content(content)}\n\n"
        elif role == "tool":
            asked += f"{_OUTPUT}{content.strip()}\n\n"
        else:
            segments += [(asked + _ANSWER, False), (instruction_answer(content), True)]
            asked = ""
    if asked or not segments:
        raise InvalidValueError(
            "a conversation must end with an answer: found none after the last user"
        )
    return segments
