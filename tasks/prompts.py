"""Eight prompts that every Nano run decodes: beginnings of Python a small model may continue."""

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
