"""The one instruction format: the same for training, decoding and export.

    ### Instruction:
    Return the sum of two numbers.

    ### Input:
    def add(a, b):

    ### Answer:
    <the answer, then the end of text>

The section `### Input:` is left out where there is no input.
"""

from __future__ import annotations


def instruction_prompt(instruction: str, given: str = "") -> str:
    """What the model is shown: the instruction, what it is applied to, and an open answer."""
    sections = [f"### Instruction:\n{instruction.strip()}\n\n"]
    if given.strip():
        # Code keeps its indentation: only the line breaks around it go.
        sections.append("### Input:\n" + given.strip("\n") + "\n\n")
    return "".join(sections) + "### Answer:\n"


def instruction_answer(answer: str) -> str:
    """What the model is to write after the prompt, without the end of text that closes it."""
    return answer.strip("\n") + "\n"
