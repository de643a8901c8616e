"""An experiment's configuration as a text to keep: a change of it shows in review."""

from __future__ import annotations

from codegen_pax.compare.differences import Side
from codegen_pax.compare.flatten import described, entries

# Whose defaults are this project's own values.
_OWN = ("codegen_pax", "experiments", "tasks")


def snapshot(side: Side) -> str:
    """One line for each class, each argument that is set and each default of ours, by path.

    What the libraries default to has no line: the lock pins it, and with it an experiment has over
    a thousand lines.
    """
    lines = (
        f"{path} = {described(value)}\n"
        for part, config in side.parts.items()
        for path, value in entries(config, part, defaults_of=_OWN).items()
    )
    return "".join(sorted(lines))
