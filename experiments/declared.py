"""The values that a person declares for an experiment, each checked. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from experiments import checks
from experiments.meshes import Mesh
from experiments.phases import Phase
from experiments.recipes import DEFAULT_RECIPE, Recipe
from experiments.sizes import Size

# The module whose import registers every experiment of the tables: `paxml.main --exp=codegen.…`.
DOOR = "codegen"

# The numbers that follow from the tables unless they are declared, each with its check.
NUMBERS = {
    "row_length": checks.row_tokens,
    "batch_rows": checks.integer,
    "micro_batch_rows": checks.integer,
    "steps": checks.integer,
    "warmup_steps": checks.count,
    "anneal_steps": checks.integer,
    "learning_rate": checks.positive,
    "learning_rate_end": checks.number,
}


@dataclass(frozen=True, kw_only=True)
class Declared:
    """The values that a person declares; those that are None follow from the rest.

    Attributes:
        size: A row of SIZES, or a `Size` of your own.
        phase: A row of PHASES, or a `Phase` of your own.
        recipe: A row of RECIPES, or a `Recipe` of your own.
        mesh: The mesh to run on.
        name: The name of the experiment: `paxml.main --exp=<module>.<name>` runs it. A class of
            your own sets both.
        module: The module that contains the experiment's class.
        start: The experiment whose weights this one starts from, as its receipt names it: `Name`
            or `module.Name`.
        row_length: T, tokens in a row of the data; at most the size's context.
        batch_rows: Rows in one optimizer step, over the whole mesh.
        micro_batch_rows: Rows in one accumulation step, over the whole mesh.
        steps: Optimizer steps.
        warmup_steps: Steps of linear warm-up from 0.
        anneal_steps: Steps of cosine after the warm-up; the rate is flat after that.
        learning_rate: The maximum of the learning rate.
        learning_rate_end: The floor of the learning rate.

    Raises:
        ValueError: A value is invalid.
    """

    size: Size
    phase: Phase
    recipe: Recipe = DEFAULT_RECIPE
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
        checks.instance(owner, "size", self.size, Size, "a row of SIZES, as SIZES['350M']")
        checks.instance(owner, "phase", self.phase, Phase, "a row of PHASES, as PHASES['Mono']")
        checks.instance(
            owner, "recipe", self.recipe, Recipe, "a row of RECIPES, as RECIPES['paper']"
        )
        if self.mesh is not None:
            checks.instance(owner, "mesh", self.mesh, Mesh, "a Mesh, as parse_mesh('1x8x1')")
        for name in ("name", "start"):
            if (value := getattr(self, name)) is not None:
                checks.text(owner, name, value)
        for name, check in NUMBERS.items():
            if (value := getattr(self, name)) is not None:
                checks.store(self, name, check(owner, name, value))
