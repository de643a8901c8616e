"""What every run decodes, to show what it has learnt: eight prompts of either kind."""

# Beginnings of Python that a small model may continue.
NANO_PROMPTS = (
    'def fibonacci(n):\n    """Return the n-th Fibonacci number."""\n',
    'def read_lines(path):\n    """Return the lines of a text file."""\n    with open(',
    'def is_empty(items):\n    """Return True if there are no items."""\n    return ',
    'class Stack:\n    """A last-in, first-out container."""\n\n    def __init__(self):\n',
    "import os\nimport sys\n\ndef main():\n    ",
    "import unittest\n\nclass TestParser(unittest.TestCase):\n\n    def test_empty(self):\n",
    "try:\n    import json\nexcept ImportError:\n",
    "for i in range(10):\n    if i % 2 == 0:\n        print(",
)

# (instruction, what it is applied to), for a run that has learnt to answer: as short as the others.
NANO_INSTRUCTIONS = (
    ("Return the n-th Fibonacci number.", "def fibonacci(n):"),
    ("Return the lines of a text file.", "def read_lines(path):"),
    ("Return True if there are no items.", "def is_empty(items):"),
    ("Return the sum of the squares of the numbers.", "def sum_of_squares(numbers):"),
    ("Return the words of a text, each with how often it occurs.", "def count_words(text):"),
    ("Return the larger of two values.", "def larger(a, b):"),
    ("Write a class that is a last-in, first-out container.", ""),
    ("Print the even numbers below ten.", ""),
)
