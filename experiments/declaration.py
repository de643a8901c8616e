"""What an experiment is, in plain values: size x phase x recipe x mesh. Standard library only.

`experiment.py` turns a declaration into Fiddle configurations; `codegen-pax list` prints it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace

from codegen_pax import names
from codegen_pax.errors import InvalidValueError, UnknownNameError
from experiments.choices import CosineEnds, Floor
from experiments.declared import DOOR, NUMBERS, Declared
from experiments.meshes import MESHES, Mesh, parse_mesh
from experiments.nano import budget
from experiments.phases import MODULES, PHASES, Phase, ancestors
from experiments.recipes import DEFAULT_RECIPE, MICRO_BATCH_ROWS, RECIPES, Recipe, find_recipe
from experiments.sizes import SIZES, Size

# The settings a run takes from its environment: stock `paxml.main` has no flag for them.
MESH_VARIABLE = "CODEGEN_MESH"
RECIPE_VARIABLE = "CODEGEN_RECIPE"
# Mixtures to evaluate on instead of the phase's own, separated by commas.
EVALUATE_VARIABLE = "CODEGEN_EVALUATE"


@dataclass(frozen=True, init=False)
class Declaration:
    """One experiment, with every number that follows from what is declared.

    `dataclasses.replace(declaration, steps=20)` declares 20 steps, and the rest follows anew:
    warm-up, cosine, floor, micro-batch. What was declared stays, until it is replaced by None.

      batch_rows    = tokens a step of the recipe (or the phase) over row_length, in whole
                      micro-batches of the table
      micro_batch_rows
                    = the table's, and where rows are shorter than the context, as many times more
                      as fit into it; fewer where the batch or the mesh asks for a divisor
      steps         = the phase's, or its tokens over those of a step; Nano's own
      warmup_steps  = the phase's, at most a tenth of the run
      anneal_steps  = what is left of the run after the warm-up; by jaxformer's recipe at most the
                      phase's own cosine, after which the rate is flat: NL of 350,000 steps has
                      300,000, of 1,000 steps it has 900
      learning_rate = the phase's for the size
      learning_rate_end
                    = a tenth of the maximum; by jaxformer's recipe the phase's own floor, which
                      keeps its ratio to a maximum that was declared

    Attributes:
      declared: what a person declares.
    """

    declared: Declared

    def __init__(self, declared: Declared | None = None, **changes):
        """Declares, or declares otherwise.

        Args:
          declared: what the changes are to.
          **changes: fields of `Declared`.

        Raises:
          ValueError: a value that is impossible alone or beside the others. Whether the mesh fits
            is not looked at: the environment may name another (see `from_environment`).
        """
        known = [field.name for field in fields(Declared)]
        for name in changes.keys() - {*known}:
            raise InvalidValueError(names.unknown("field of a declaration", name, known))
        found = Declared(**changes) if declared is None else replace(declared, **changes)
        object.__setattr__(self, "declared", found)
        self._check()

    @property
    def size(self) -> Size:
        return self.declared.size

    @property
    def phase(self) -> Phase:
        return self.declared.phase

    @property
    def recipe(self) -> Recipe:
        return self.declared.recipe

    @property
    def table_name(self) -> str:
        """The experiment of the tables that it is, or is a variant of."""
        return f"CodeGen{self.size.name}{self.phase.name}"

    @property
    def name(self) -> str:
        """The run's: in its folder, its receipts and its pictures."""
        return self.declared.name or self.table_name

    @property
    def module(self) -> str:
        """Where its class is."""
        return self.declared.module

    @property
    def by_hand(self) -> dict[str, int | float]:
        """Which of its numbers were declared, rather than follow."""
        found = {name: getattr(self.declared, name) for name in NUMBERS}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def is_variant(self) -> bool:
        """Whether it is another experiment than that of the tables, by whatever recipe and mesh."""
        own_rows = (SIZES.get(self.size.name), PHASES.get(self.phase.name))
        named = self.name == self.table_name
        return bool(self.by_hand) or not named or own_rows != (self.size, self.phase)

    @property
    def start(self) -> str | None:
        """The experiment whose weights it starts from."""
        if self.declared.start is not None:
            return self.declared.start
        return self.phase.start and f"CodeGen{self.size.name}{self.phase.start}"

    @property
    def mixture(self) -> str:
        return self.phase.nano_mixture if self.size.embedded else self.phase.mixture

    @property
    def unverified(self) -> tuple[str, ...]:
        """Which of its published numbers were not seen at their source."""
        found = self.phase.unverified.get(self.size.name, ())
        return tuple(name for name in found if name not in self.by_hand)

    @property
    def parameters(self) -> int:
        """Parameters that are trained: the network's, and jaxformer's embedding bias [D]."""
        return self.size.parameters + self.recipe.embedding_bias * self.size.model_dims

    @property
    def mesh(self) -> Mesh:
        """Raises ValueError for a size that no mesh is declared for."""
        return self.declared.mesh or self._of_size("mesh", MESHES, "the table of meshes")

    @property
    def row_length(self) -> int:
        return self.declared.row_length or self.size.context

    @property
    def batch_rows(self) -> int:
        if self.declared.batch_rows is not None:
            return self.declared.batch_rows
        tokens = self.phase.batch_tokens
        if tokens is None or self.size.embedded:
            table = self.recipe.batch_tokens
            tokens = self._of_size("batch_rows", table, f"recipe {self.recipe.name}")
        rows = tokens // self.row_length
        if not rows:
            raise InvalidValueError(
                f"{self.name}: a batch of {tokens:,} tokens has no row of {self.row_length:,}; "
                "wanted a shorter row_length, or batch_rows"
            )
        micro_batch = self._table_rows()
        return rows // micro_batch * micro_batch or rows

    @property
    def micro_batch_rows(self) -> int:
        """Raises ValueError: the mesh cannot hold the network or cut the batch."""
        size, mesh, rows = self.size, self.mesh, self.batch_rows
        if size.heads % mesh.shape[2]:
            raise InvalidValueError(
                f"mesh {mesh}: mdl={mesh.shape[2]} does not divide the {size.heads} heads of "
                f"{size.name}; wanted a divisor of {size.heads}"
            )
        shards, wanted = mesh.batch_shards, self.declared.micro_batch_rows
        if rows % shards:
            raise InvalidValueError(
                f"mesh {mesh}: replica x data = {shards} does not divide {self.name}'s batch of "
                f"{rows} rows; wanted a divisor of {rows} ({MESH_VARIABLE} names another mesh)"
            )
        if wanted is None:
            most = max(shards, min(rows, self._table_rows()))
            fitting = range(most - most % shards, 0, -shards)
            return next(found for found in fitting if rows % found == 0)
        if wanted % shards or rows % wanted:
            raise InvalidValueError(
                f"{self.name}: micro_batch_rows={wanted}; wanted a divisor of the batch's {rows} "
                f"rows that replica x data = {shards} of mesh {mesh} divides"
            )
        return wanted

    @property
    def steps(self) -> int:
        if self.declared.steps is not None:
            return self.declared.steps
        if self.size.embedded:
            return budget(self.phase.name).steps
        return self.phase.steps or -(-self.phase.tokens // self.batch_tokens)

    @property
    def warmup_steps(self) -> int:
        if self.declared.warmup_steps is not None:
            return self.declared.warmup_steps
        wanted = self.phase.warmup_steps
        if self.size.embedded:
            nano = budget(self.phase.name)
            wanted = nano.warmup_steps
            if self.steps >= nano.steps:  # tuned as they are
                return wanted
        # The rate of the first step of a warm-up is 0: a run of one step would learn nothing.
        return min(wanted, max(1, self.steps // 10), self.steps - 1)

    @property
    def anneal_steps(self) -> int:
        if self.declared.anneal_steps is not None:
            return self.declared.anneal_steps
        left = self.steps - self.warmup_steps
        own = self.phase.anneal_steps
        if self.recipe.cosine_ends == CosineEnds.ANNEAL_STEPS and own and not self.size.embedded:
            return min(own, left)
        return left

    @property
    def learning_rate(self) -> float:
        if self.declared.learning_rate is not None:
            return self.declared.learning_rate
        if self.size.embedded:
            return budget(self.phase.name).learning_rate
        return self._of_size("learning_rate", self.phase.learning_rate, f"phase {self.phase.name}")

    @property
    def learning_rate_end(self) -> float:
        if self.declared.learning_rate_end is not None:
            return self.declared.learning_rate_end
        own = self.phase.learning_rate_end.get(self.size.name)
        if own is None or self.recipe.floor != Floor.CONFIG:
            return self.learning_rate / 10
        if self.declared.learning_rate is None:
            return own
        return self.learning_rate * own / self.phase.learning_rate[self.size.name]

    @property
    def batch_tokens(self) -> int:
        return self.batch_rows * self.row_length

    @property
    def tokens(self) -> int:
        """Tokens read in the whole run."""
        return self.steps * self.batch_tokens

    @property
    def accumulation_steps(self) -> int:
        return self.batch_rows // self.micro_batch_rows

    @property
    def flops_per_token(self) -> int:
        """Model FLOPs to train on one token of a row."""
        return self.size.flops_per_token(self.row_length)

    @property
    def flops(self) -> int:
        """Model FLOPs of the whole run."""
        return self.tokens * self.flops_per_token

    @property
    def command(self) -> str:
        return f"python -m paxml.main --exp={self.module}.{self.name} --job_log_dir=DIR"

    def check_mesh(self) -> None:
        """Raises ValueError: the mesh cannot hold the network or cut the batch."""
        _ = self.micro_batch_rows

    def _check(self) -> None:
        """Raises ValueError for numbers that do not go together, or that no table has."""
        if self.row_length > self.size.context:
            raise InvalidValueError(
                f"{self.name}: row_length={self.row_length:,}; wanted at most {self.size.context:,}"
                f", the context of size {self.size.name}"
            )
        if self.batch_tokens and self.anneal_steps < 1:
            raise InvalidValueError(
                f"{self.name}: warmup_steps={self.warmup_steps:,} leaves none of {self.steps:,} "
                f"steps for the cosine; wanted at most {self.steps - 1:,}, or anneal_steps too"
            )
        if self.learning_rate_end > self.learning_rate:
            raise InvalidValueError(
                f"{self.name}: learning_rate_end={self.learning_rate_end:g} is above "
                f"learning_rate={self.learning_rate:g}; wanted at most that"
            )

    def _table_rows(self) -> int:
        """The table's rows of a micro-batch; of shorter rows as many times more as fit into one."""
        rows = self._of_size("micro_batch_rows", MICRO_BATCH_ROWS, "the table of micro-batches")
        return rows * (self.size.context // self.row_length)

    def _of_size(self, name: str, table: Mapping, where: str):
        """The value of a table for the size.

        Raises:
          ValueError: it has none, as for a size of one's own.
        """
        if self.size.name not in table:
            raise InvalidValueError(
                f"{self.name}: {where} has nothing for size {self.size.name} (it has "
                f"{', '.join(table)}); wanted {name} in the declaration"
            )
        return table[self.size.name]


def declare(
    size: Size, phase: Phase, recipe: Recipe | None = None, mesh: Mesh | None = None
) -> Declaration:
    """Declares one experiment, all of whose numbers follow from the tables.

    Raises:
      ValueError: see `Declaration`.
    """
    recipe = recipe or RECIPES[DEFAULT_RECIPE]
    module = MODULES.get(phase.name, DOOR)
    return Declaration(size=size, phase=phase, recipe=recipe, mesh=mesh, module=module)


def from_environment(
    declaration: Declaration, environment: Mapping[str, str] = os.environ
) -> Declaration:
    """The declaration with the mesh and the recipe of `environment`, where it names them.

    Raises:
      KeyError: there is no such recipe.
      ValueError: the mesh cannot hold the network or cut the batch. Both name the variable.
    """
    if recipe_name := environment.get(RECIPE_VARIABLE):
        try:
            recipe = find_recipe(recipe_name)
        except UnknownNameError as error:
            raise UnknownNameError(f"{RECIPE_VARIABLE}: {error}") from None
        declaration = replace(declaration, recipe=recipe)
    mesh_text = environment.get(MESH_VARIABLE)
    try:
        if mesh_text:
            declaration = replace(declaration, mesh=parse_mesh(mesh_text))
        declaration.check_mesh()
    except InvalidValueError as error:
        if not mesh_text:
            raise
        raise InvalidValueError(f"{MESH_VARIABLE}={mesh_text}: {error}") from error
    return declaration


def named_for_evaluation(environment: Mapping[str, str] = os.environ) -> list[str]:
    """The mixtures that `environment` names to evaluate on; none if it names none."""
    named = (name.strip() for name in environment.get(EVALUATE_VARIABLE, "").split(","))
    return [name for name in named if name]


def declarations(phases: Mapping[str, Phase] = PHASES) -> Iterator[Declaration]:
    """Every experiment of the tables: phase by phase, small to large.

    Raises:
      ValueError: a phase lies under another name than its own, or see `ancestors`.
    """
    for name, phase in phases.items():
        if name != phase.name:
            raise InvalidValueError(f"phase {phase.name} lies in the table as {name!r}")
        ancestors(phase, phases)
        for size in SIZES.values():
            yield declare(size, phase)


def find_declaration(name: str, phases: Mapping[str, Phase] = PHASES) -> Declaration:
    """The experiment called `name`, with or without the leading `codegen.`.

    Raises:
      KeyError: there is none; names the nearest.
    """
    by_name = {declaration.name: declaration for declaration in declarations(phases)}
    plain = name.removeprefix(f"{DOOR}.")
    if plain not in by_name:
        raise UnknownNameError(names.unknown("experiment", plain, by_name))
    return by_name[plain]
