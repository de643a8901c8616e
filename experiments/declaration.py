"""What an experiment is, in plain values: size x phase x recipe x mesh. Standard library only.

`experiment.py` turns a declaration into Fiddle configurations; `codegen-pax list` prints it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

from codegen_pax import names
from codegen_pax.errors import InvalidValueError, UnknownNameError
from experiments.meshes import MESHES, Mesh, parse_mesh
from experiments.nano import budget
from experiments.phases import PHASES, Phase
from experiments.recipes import DEFAULT_RECIPE, MICRO_BATCH_ROWS, RECIPES, Recipe
from experiments.sizes import SIZES, Size

# The settings a run takes from its environment: stock `paxml.main` has no flag for them.
MESH_VARIABLE = "CODEGEN_MESH"
RECIPE_VARIABLE = "CODEGEN_RECIPE"
# Mixtures to evaluate on instead of the phase's own, separated by commas.
EVALUATE_VARIABLE = "CODEGEN_EVALUATE"


@dataclass(frozen=True)
class Declaration:
    """One experiment, resolved.

    Attributes:
      size, phase, recipe, mesh: rows of the tables.
      batch_rows: rows of `size.context` tokens in one optimizer step, over the whole mesh.
      micro_batch_rows: rows in one accumulation step, over the whole mesh.
      steps: optimizer steps.
      warmup_steps: of linear warm-up from 0.
      anneal_steps: of cosine after the warm-up; the rate is flat after that.
      learning_rate: the maximum.
      learning_rate_end: the floor.
    """

    size: Size
    phase: Phase
    recipe: Recipe
    mesh: Mesh
    batch_rows: int
    micro_batch_rows: int
    steps: int
    warmup_steps: int
    anneal_steps: int
    learning_rate: float
    learning_rate_end: float

    @property
    def name(self) -> str:
        return f"CodeGen{self.size.name}{self.phase.name}"

    @property
    def start(self) -> str | None:
        """The experiment whose weights it starts from."""
        return self.phase.start and f"CodeGen{self.size.name}{self.phase.start}"

    @property
    def mixture(self) -> str:
        return self.phase.nano_mixture if self.size.embedded else self.phase.mixture

    @property
    def unverified(self) -> tuple[str, ...]:
        """Which of its published numbers were not seen at their source."""
        return self.phase.unverified.get(self.size.name, ())

    @property
    def parameters(self) -> int:
        """Parameters that are trained: the network's, and jaxformer's embedding bias [D]."""
        return self.size.parameters + self.recipe.embedding_bias * self.size.model_dims

    @property
    def batch_tokens(self) -> int:
        return self.batch_rows * self.size.context

    @property
    def tokens(self) -> int:
        """Tokens read in the whole run."""
        return self.steps * self.batch_tokens

    @property
    def accumulation_steps(self) -> int:
        return self.batch_rows // self.micro_batch_rows

    @property
    def flops(self) -> int:
        """Model FLOPs of the whole run."""
        return self.tokens * self.size.flops_per_token()

    @property
    def command(self) -> str:
        return f"python -m paxml.main --exp=codegen.{self.name} --job_log_dir=DIR"


def declare(
    size: Size, phase: Phase, recipe: Recipe | None = None, mesh: Mesh | None = None
) -> Declaration:
    """Resolves one experiment from the tables.

    Raises:
      ValueError: the mesh cannot hold the network or cut the batch.
    """
    recipe = recipe or RECIPES[DEFAULT_RECIPE]
    mesh = mesh or MESHES[size.name]
    batch_tokens = recipe.batch_tokens[size.name]
    if phase.batch_tokens is not None and not size.embedded:
        batch_tokens = phase.batch_tokens
    batch_rows = batch_tokens // size.context
    if size.embedded:
        nano = budget(phase.name)
        steps, warmup, maximum = nano.steps, nano.warmup_steps, nano.learning_rate
    else:
        steps = phase.steps or -(-phase.tokens // batch_tokens)
        # A short phase warms up for at most a tenth of itself.
        warmup = min(phase.warmup_steps, max(1, steps // 10))
        maximum = phase.learning_rate[size.name]
    anneal = steps - warmup
    if recipe.cosine_ends == "anneal_steps" and phase.anneal_steps and not size.embedded:
        anneal = phase.anneal_steps
    floor = maximum / 10
    if recipe.floor == "config":
        floor = phase.learning_rate_end.get(size.name, floor)
    return Declaration(
        size=size,
        phase=phase,
        recipe=recipe,
        mesh=mesh,
        batch_rows=batch_rows,
        micro_batch_rows=_micro_batch_rows(size, mesh, batch_rows, MICRO_BATCH_ROWS[size.name]),
        steps=steps,
        warmup_steps=warmup,
        anneal_steps=anneal,
        learning_rate=maximum,
        learning_rate_end=floor,
    )


def _micro_batch_rows(size: Size, mesh: Mesh, batch_rows: int, wanted: int) -> int:
    """Rows of one accumulation step: those wanted, or one for each shard of a wider mesh."""
    if size.heads % mesh.shape[2]:
        raise InvalidValueError(
            f"mesh {mesh}: mdl={mesh.shape[2]} does not divide the {size.heads} heads of "
            f"{size.name}; wanted a divisor of {size.heads}"
        )
    shards = mesh.batch_shards
    rows = min(batch_rows, max(wanted, shards))
    if rows % shards or batch_rows % rows:
        raise InvalidValueError(
            f"mesh {mesh}: replica x data = {shards} does not divide {size.name}'s micro-batch of "
            f"{rows} rows (batch {batch_rows}); wanted a divisor of {rows}"
        )
    return rows


def _with_recipe(declaration: Declaration, recipe: Recipe) -> Declaration:
    """The same experiment by another recipe, keeping every field its owner has changed."""
    size, phase, mesh = declaration.size, declaration.phase, declaration.mesh
    tables = declare(size, phase, declaration.recipe, mesh)
    changed = {
        field.name: getattr(declaration, field.name)
        for field in fields(declaration)
        if getattr(declaration, field.name) != getattr(tables, field.name)
    }
    return replace(declare(size, phase, recipe, mesh), **changed)


def find_recipe(name: str) -> Recipe:
    """The recipe called `name`.

    Raises:
      KeyError: there is none; names the nearest.
    """
    if name not in RECIPES:
        raise UnknownNameError(names.unknown("recipe", name, RECIPES))
    return RECIPES[name]


def from_environment(
    declaration: Declaration, environment: Mapping[str, str] = os.environ
) -> Declaration:
    """The declaration with the mesh and the recipe of `environment`, where it names them.

    What a subclass changed by `dataclasses.replace` (steps, rates) is kept.
    """
    if recipe_name := environment.get(RECIPE_VARIABLE):
        declaration = _with_recipe(declaration, find_recipe(recipe_name))
    if mesh_text := environment.get(MESH_VARIABLE):
        mesh = parse_mesh(mesh_text)
        declaration = replace(
            declaration,
            mesh=mesh,
            micro_batch_rows=_micro_batch_rows(
                declaration.size, mesh, declaration.batch_rows, declaration.micro_batch_rows
            ),
        )
    return declaration


def declarations(phases: Mapping[str, Phase] = PHASES) -> Iterator[Declaration]:
    """Every experiment of the tables: phase by phase, small to large."""
    for phase in phases.values():
        for size in SIZES.values():
            yield declare(size, phase)


def find_declaration(name: str, phases: Mapping[str, Phase] = PHASES) -> Declaration:
    """The experiment called `name`, with or without the leading `codegen.`.

    Raises:
      KeyError: there is none; names the nearest.
    """
    by_name = {declaration.name: declaration for declaration in declarations(phases)}
    plain = name.removeprefix("codegen.")
    if plain not in by_name:
        raise UnknownNameError(names.unknown("experiment", plain, by_name))
    return by_name[plain]
