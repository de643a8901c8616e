"""The instruction format, against its own description."""

from codegen_pax.text import instruction_format


def test_prompt_with_input_is_as_documented():
    prompt = instruction_format.instruction_prompt(
        "Return the sum of two numbers.", "def add(a, b):"
    )
    answer = instruction_format.instruction_answer("    return a + b")
    assert prompt + answer == (
        "### Instruction:\nReturn the sum of two numbers.\n\n"
        "### Input:\ndef add(a, b):\n\n"
        "### Answer:\n    return a + b\n"
    )
    shown = "\n".join(line.removeprefix("    ") for line in instruction_format.__doc__.splitlines())
    assert prompt in shown


def test_prompt_without_input_has_no_input_section():
    assert instruction_format.instruction_prompt(" Say hello. \n") == (
        "### Instruction:\nSay hello.\n\n### Answer:\n"
    )


def test_code_keeps_its_indentation():
    assert "### Input:\n    x = 1\n\n" in instruction_format.instruction_prompt(
        "Go on.", "\n    x = 1\n"
    )
    assert instruction_format.instruction_answer("\n\n    return 1\n\n") == "    return 1\n"
