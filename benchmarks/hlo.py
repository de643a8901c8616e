"""Counts what a compiled program does, loops by their trips: XLA's own counts take a body once."""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
)
_COMPUTATION = re.compile(r"^(ENTRY )?(%?[\w.-]+) \(.*\{$")
_OPERATION = re.compile(r"^\s+(?:ROOT )?(%?[\w.-]+) = (.+)$")
_ARRAY = re.compile(r"\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]")
_CONTRACTED = re.compile(r"lhs_contracting_dims=\{([\d,]*)\}")
_CALLED = re.compile(
    r"\b(?:calls|to_apply|body|condition|branch_computations|called_computations)="
    r"\{?(%[\w.-]+(?:, %[\w.-]+)*)"
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """One line of a computation.

    Attributes:
        name: Its name, with the sign %.
        shape: The type and the shape of its result, as XLA prints it.
        kind: What it does, as "dot".
        operands: The names of what it takes.
        attributes: The rest of the line.
    """

    name: str
    shape: str
    kind: str
    operands: tuple[str, ...]
    attributes: str

    @property
    def nbytes(self) -> int:
        """The bytes of the result, all parts of a tuple together."""
        return nbytes(self.shape)

    @property
    def called(self) -> list[str]:
        """The computations that it runs."""
        return [name for found in _CALLED.findall(self.attributes) for name in found.split(", ")]


class Program:
    """A compiled program: its computations, and how often each of them runs.

    Attributes:
        computations: The operations of each computation, by its name.
        times: How often each runs when the program runs once.
    """

    def __init__(self, text: str):
        """Reads what `compiled.as_text()` returns."""
        self.computations: dict[str, dict[str, Operation]] = {}
        entry, operations = "", {}
        for line in text.splitlines():
            if heading := _COMPUTATION.match(line):
                operations = self.computations[heading[2]] = {}
                entry = heading[2] if heading[1] else entry
            elif found := _OPERATION.match(line):
                operation = _parse(found[1], found[2])
                operations[operation.name] = operation
        self.times: collections.Counter[str] = collections.Counter({entry: 1})
        for name in reversed(self.computations):  # what is called is printed before
            for operation in self.computations[name].values():
                trips = self.trips(operation) if operation.kind == "while" else 1
                for called in operation.called:
                    self.times[called] += self.times[name] * trips

    def operations(self, within: str | None = None) -> Iterator[tuple[Operation, int]]:
        """Yields each operation and how often it runs; with `within`, those that one calls too."""
        names = self.computations if within is None else self.reached(within)
        for name in names:
            for operation in self.computations[name].values():
                yield operation, self.times[name]

    def reached(self, name: str) -> list[str]:
        """Returns a computation and those that it runs, directly or through others."""
        found, waiting = [], [name]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.append(name)
                for operation in self.computations[name].values():
                    waiting += operation.called
        return found

    def trips(self, loop: Operation) -> int:
        """Returns how often the body of a `while` runs: XLA's own count, or the loop's bound."""
        if known := re.search(r'known_trip_count":?\{"n":"(\d+)"', loop.attributes):
            return int(known[1])
        condition = re.search(r"condition=(%[\w.-]+)", loop.attributes)[1]
        bounds = [
            int(constant[1])
            for operation in self.computations[condition].values()
            if operation.kind == "constant"
            and (constant := re.match(r"(\d+)\)", operation.attributes))
        ]
        return max(bounds, default=1)

    def product_flops(self) -> int:
        """Returns the FLOPs of the products of matrices: two for each multiplication."""
        total = 0
        for name, operations in self.computations.items():
            for operation in operations.values():
                if operation.kind == "dot":
                    contracted = _CONTRACTED.search(operation.attributes)
                    left = dimensions(operations[operation.operands[0]].shape)
                    inner = [left[int(axis)] for axis in contracted[1].split(",") if axis]
                    size = math.prod(dimensions(operation.shape))
                    total += 2 * self.times[name] * size * math.prod(inner)
        return total

    def collective_bytes(self, within: str | None = None) -> dict[str, int]:
        """Returns the bytes that one device's collectives take or give, the larger, by kind."""
        total = dict.fromkeys(COLLECTIVES, 0)
        for operation, times in self.operations(within):
            kind = operation.kind.removesuffix("-start")
            if kind in total:
                size = operation.nbytes
                if kind == "reduce-scatter":
                    size *= _group_size(operation)
                elif operation.kind.endswith("-start"):
                    size //= 2  # its result has the operand too
                total[kind] += times * size
        return total


def nbytes(shape: str) -> int:
    """Returns the bytes of a shape as XLA prints it: f32[2,3]{1,0}, or a tuple of such."""
    return sum(
        math.prod(map(int, filter(None, sizes.split(",")))) * (int(bits or 8) / 8)
        for _, bits, sizes in _ARRAY.findall(shape)
    ).__ceil__()


def dimensions(shape: str) -> list[int]:
    """Returns the dimensions of a shape that is no tuple."""
    return [int(size) for size in _ARRAY.search(shape)[3].split(",") if size]


def _parse(name: str, text: str) -> Operation:
    """Parses `f32[2]{0} add(%a, %b), attribute=...`."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    shape, rest = text[:end], text[end:].lstrip()
    kind, _, rest = rest.partition("(")
    close = _closing(f"({rest}", 0) - 1
    operands = tuple(re.findall(r"%[\w.-]+", rest[:close]))
    attributes = rest if kind == "constant" else rest[close + 1 :]
    return Operation(name, shape, kind, operands, attributes)


def _closing(text: str, start: int) -> int:
    """Returns the place of the parenthesis that closes the one at `start`."""
    depth = 0
    for place in range(start, len(text)):
        depth += (text[place] == "(") - (text[place] == ")")
        if not depth:
            return place
    return len(text)


def _group_size(operation: Operation) -> int:
    """Returns how many devices take part in each group of a collective."""
    if listed := re.search(r"replica_groups=\{\{([\d,]*)\}", operation.attributes):
        return listed[1].count(",") + 1
    if tiled := re.search(r"replica_groups=\[\d+,(\d+)\]", operation.attributes):
        return int(tiled[1])
    return 1
