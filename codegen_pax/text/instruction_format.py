"""The instruction format: the same for training, decoding and export.

    ### Instruction:
    Return the sum of two numbers.

    ### Input:
    def add(a, b):

    ### Answer:
    <the answer, then the end of text>

The section `### Input:` is omitted if there is no input. A conversation continues with another
`### Instruction:` after the end of text; a system message precedes it unchanged, followed by an
empty line. Tools are described under `### Tools:` at the end of the system message; calls stand
under `### Call:` at the end of an answer, one JSON object per line, and the result of a tool
follows under `### Output:` in place of an instruction.
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen_pax.errors import InvalidValueError

_INSTRUCTION, _INPUT, _ANSWER = "### Instruction:\n", "### Input:\n", "### Answer:\n"
_TOOLS, _CALL, _OUTPUT = "### Tools:\n", "### Call:\n", "### Output:\n"

# role of a turn -> possible roles of the previous turn; None is the start of a conversation
_PREVIOUS_ROLES = {
    "system": (None,),
    "user": (None, "system", "assistant"),
    "tool": ("assistant", "tool"),
    "assistant": ("user", "tool"),
}


def user_content(instruction: str, input_text: str = "") -> str:
    """Returns a user's turn: an instruction and the input it applies to."""
    # Only the line breaks around the input are stripped, so that code keeps its indentation.
    section = f"\n\n{_INPUT}" + input_text.strip("\n").rstrip() if input_text.strip() else ""
    return instruction.strip() + section


def system_content(system: str, tools: str) -> str:
    """Returns a system turn: the message, which may be empty, and the description of tools."""
    return "\n\n".join(filter(None, [system.strip(), _TOOLS + tools]))


def answer_content(answer: str, calls: Sequence[str]) -> str:
    """Returns an assistant's turn with tool calls; the answer may be empty."""
    return "\n\n".join(filter(None, [answer.strip("\n").rstrip(), _CALL + "\n".join(calls)]))


def instruction_prompt(instruction: str, input_text: str = "") -> str:
    """Returns the prompt for an instruction and its input, up to the beginning of the answer."""
    return f"{_INSTRUCTION}{user_content(instruction, input_text)}\n\n{_ANSWER}"


def instruction_answer(answer: str) -> str:
    """Returns the text that follows the prompt, without the end-of-text token."""
    return answer.strip("\n") + "\n"


def conversation(turns: Sequence[tuple[str, str]]) -> list[tuple[str, bool]]:
    """Returns a conversation as the segments of its row.

    Args:
        turns: (role, content) of each turn: optionally 'system' first, then alternating 'user' and
            'assistant', ending with 'assistant'. After an answer, one or more 'tool' turns with
            the results of tools, which may be empty, can replace 'user'.

    Returns:
        (text, is_answer) of each segment. The tokenising caller appends the end-of-text token to
        every answer as a part of it; the loss is on answers only. The texts of a single
        instruction are those of `instruction_prompt` and `instruction_answer`.

    Raises:
        ValueError: a role is unknown or out of order, or a turn is empty.
    """
    segments: list[tuple[str, bool]] = []
    prompt = ""  # the text since the last answer
    for number, (role, content) in enumerate(turns):
        if not content.strip() and role != "tool":
            raise InvalidValueError(f"turn {number} ({role}) of a conversation is empty")
        previous = turns[number - 1][0] if number else None
        if previous not in _PREVIOUS_ROLES.get(role, ()):
            expected = " or ".join(
                repr(name) for name, others in _PREVIOUS_ROLES.items() if previous in others
            )
            raise InvalidValueError(
                f"turn {number} of a conversation: found role {role!r}, expected {expected}"
            )
        if role == "system":
            prompt = content.strip() + "\n\n"
        elif role == "user":
            prompt += f"{_INSTRUCTION}{user_content(content)}\n\n"
        elif role == "tool":
            prompt += f"{_OUTPUT}{content.strip()}\n\n"
        else:
            segments += [(prompt + _ANSWER, False), (instruction_answer(content), True)]
            prompt = ""
    if prompt or not segments:
        raise InvalidValueError(
            "a conversation must end with an answer: found none after the last user"
        )
    return segments
