"""What a person declares of an experiment; what follows is in `declaration.py`.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass

from experiments import checks
from experiments.meshes import Mesh
from experiments.phases import Phase
from experiments.recipes import DEFAULT_RECIPE, RECIPES, Recipe
from experiments.sizes import Size

# The module whose import registers every experiment of the tables: `paxml.main --exp=codegen.…`.
DOOR = "codegen"

# The numbers that follow unless they are declared, and what each may be.
NUMBERS = {
    "row_length": checks.tokens,
    "batch_rows": checks.whole,
    "micro_batch_rows": checks.whole,
    "steps": checks.whole,
    "warmup_steps": checks.count,
    "anneal_steps": checks.whole,
    "learning_rate": checks.rate,
    "learning_rate_end": checks.number,
}


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

    Raises ValueError for a value that is none of these.
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

    def __post_init__(self):
        owner = self.name or "declaration"
        checks.a(owner, "size", self.size, Size, "a row of SIZES, as SIZES['350M']")
        checks.a(owner, "phase", self.phase, Phase, "a row of PHASES, as PHASES['Mono']")
        checks.a(owner, "recipe", self.recipe, Recipe, "a row of RECIPES, as RECIPES['paper']")
        if self.mesh is not None:
            checks.a(owner, "mesh", self.mesh, Mesh, "a Mesh, as parse_mesh('1x8x1')")
        for name in ("name", "start"):
            if (value := getattr(self, name)) is not None:
                checks.text(owner, name, value)
        for name, check in NUMBERS.items():
            if (value := getattr(self, name)) is not None:
                checks.store(self, name, check(owner, name, value))
