"""What a person declares of an experiment; what follows is in `declaration.py`.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments.meshes import Mesh
from experiments.phases import Phase
from experiments.recipes import DEFAULT_RECIPE, RECIPES, Recipe
from experiments.sizes import Size

# The module whose import registers every experiment of the tables: `paxml.main --exp=codegen.…`.
DOOR = "codegen"


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a person declares; what is None follows from the rest (see `Declaration`).

    Attributes:
      size, phase, recipe, mesh: rows of the tables, or rows like them.
      name, module: `paxml.main --exp=<module>.<name>` runs it. A class of one's own sets both.
      start: the experiment whose weights it starts from, as its receipt names it: `Name` or
        `module.Name`.
      row_length: T, tokens in a row of the data; at most the size's context.
      batch_rows: rows in one optimizer step, over the whole mesh.
      micro_batch_rows: rows in one accumulation step, over the whole mesh.
      steps: optimizer steps.
      warmup_steps: of linear warm-up from 0.
      anneal_steps: of cosine after the warm-up; the rate is flat after that.
      learning_rate: the maximum.
      learning_rate_end: the floor.
    """

    size: Size
    phase: Phase
    recipe: Recipe = RECIPES[DEFAULT_RECIPE]
    mesh: Mesh | None = None
    name: str | None = None
    module: str = DOOR
    start: str | None = None
    row_length: int | None = None
    batch_rows: int | None = None
    micro_batch_rows: int | None = None
    steps: int | None = None
    warmup_steps: int | None = None
    anneal_steps: int | None = None
    learning_rate: float | None = None
    learning_rate_end: float | None = None


# What a person may set by hand of the numbers that otherwise follow.
NUMBERS = (
    "row_length",
    "batch_rows",
    "micro_batch_rows",
    "steps",
    "warmup_steps",
    "anneal_steps",
    "learning_rate",
    "learning_rate_end",
)
