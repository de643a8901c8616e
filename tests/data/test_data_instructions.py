"""Pairs cut out of Python source."""

import ast

from codegen_pax.data import installed, instructions

SOURCE = '''
def add(a, b):
    """Return the sum of two numbers."""
    return a + b


class Box:
    """Holds one thing for later."""

    @property
    def thing(
        self,
    ):
        """What was put in.

        Or nothing at all.
        """
        # The comment stays.
        if self._thing is None:
            return "!"
        return self._thing

    def empty(self):
        """To be written by a subclass."""
        raise NotImplementedError

    def short(self):
        """Too short."""
        return 1

    def bare(self):
        return "no promise here"

    async def text(self):
        """A body whose string must not be moved."""
        return """
left
"""


def one_line(): """Documented, but all in one line."""; return 1
'''

ADD = (
    "### Instruction:\nReturn the sum of two numbers.\n\n### Input:\ndef add(a, b):\n\n"
    "### Answer:\n",
    "    return a + b\n",
)
THING = (
    "### Instruction:\nWhat was put in.\n\nOr nothing at all.\n\n"
    "### Input:\ndef thing(\n    self,\n):\n\n### Answer:\n",
    "    # The comment stays.\n    if self._thing is None:\n"
    '        return "!"\n    return self._thing\n',
)


def test_pairs_of_a_module():
    assert instructions.pairs(SOURCE) == [ADD, THING]


def test_source_that_does_not_parse_has_no_pairs():
    assert instructions.pairs("def f(:\n") == []
    assert instructions.pairs("x = '\x00'\n") == []


def test_signature_and_answer_of_the_library_are_programs_together():
    pairs = [
        pair
        for file in instructions.documented_modules()[::8]
        for pair in instructions.file_pairs(file.path)
    ]
    assert len(pairs) > 200
    for prompt, answer in pairs:
        signature = prompt.partition("### Input:\n")[2].partition("\n\n### Answer:\n")[0]
        (function,) = ast.parse(signature + "\n" + answer).body
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)


def test_modules_with_pairs_keep_their_split():
    modules = instructions.documented_modules()
    assert set(modules) <= set(installed.standard_library())
    assert {file.split for file in modules} == {"train", "validation"}
    assert sum(len(instructions.file_pairs(file.path)) for file in modules) > 2_000
