"""An experiment in plain values: size x phase x recipe x mesh. Standard library only.

`Declared` is what a person declares; `Declaration` adds the numbers that follow from it.
`experiment.py` turns a declaration into Fiddle configurations, and `codegen-pax list` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from codegen_pax import messages
from codegen_pax.errors import InvalidValueError, UnknownNameError
from experiments.declared import DOOR, NUMBERS, Declared
from experiments.meshes import PLACEMENTS, Mesh, Placement
from experiments.phases import MODULES, PHASES, Phase, ancestors, nano_mixture
from experiments.profiles import Budget, Data, Profile
from experiments.recipes import DEFAULT_RECIPE, CosineEnds, Floor, Recipe
from experiments.settings import VARIABLES, Settings
from experiments.sizes import SIZES, Size, Vocabulary

T = TypeVar("T")


@dataclass(frozen=True, init=False)
class Declaration:
    """One experiment, with every number that follows from the declared values.

    `dataclasses.replace(declaration, steps=20)` declares 20 steps and derives the rest again:
    warm-up, cosine, floor, micro-batch. Declared values stay until they are replaced by None.

      batch_rows    = tokens per step of the phase (or the size) / row_length, rounded down to
                      whole micro-batches of the table
      micro_batch_rows
                    = the table's value, times the number of rows that fit into the context; fewer
                      where the batch or the mesh needs a divisor
      steps         = the profile's, or the phase's, or the phase's tokens / tokens per step
      warmup_steps  = the phase's, at most a tenth of the run
      anneal_steps  = the steps after the warm-up; with jaxformer's recipe at most the phase's own
                      cosine, after which the rate is flat: for NL, 300,000 in a run of 350,000
                      steps and 900 in a run of 1,000
      learning_rate = the size's for the phase
      learning_rate_end
                    = a tenth of the maximum; with jaxformer's recipe the config's own floor, in
                      the same ratio to the maximum if the maximum is declared

    Attributes:
        declared: The values that a person declares.
    """

    declared: Declared

    def __init__(self, declared: Declared | None = None, **changes):
        """Declares an experiment, or changes a declaration.

        Args:
            declared: The values to change; None for a new declaration.
            **changes: Fields of `Declared`.

        Raises:
            ValueError: A value is invalid, or does not fit the others. The mesh is not checked,
                because the settings may name another (see `configured`).
        """
        known = [field.name for field in fields(Declared)]
        for name in changes.keys() - {*known}:
            raise InvalidValueError(messages.unknown("field of a declaration", name, known))
        values = Declared(**changes) if declared is None else replace(declared, **changes)
        object.__setattr__(self, "declared", values)
        self._check()

    @property
    def size(self) -> Size:
        """The declared size."""
        return self.declared.size

    @property
    def phase(self) -> Phase:
        """The declared phase."""
        return self.declared.phase

    @property
    def recipe(self) -> Recipe:
        """The declared recipe."""
        return self.declared.recipe

    @property
    def profile(self) -> Profile:
        """The data and the length of the run, and how often it reports."""
        return self.size.profile

    @property
    def table_name(self) -> str:
        """The name of this experiment in the tables, or of the one that it is a variant of."""
        return f"CodeGen{self.size.name}{self.phase.name}"

    @property
    def name(self) -> str:
        """The name of the experiment, as in its job directory, receipts and plots."""
        return self.declared.name or self.table_name

    @property
    def module(self) -> str:
        """The module that contains the experiment's class."""
        return self.declared.module

    @property
    def by_hand(self) -> dict[str, int | float]:
        """The numbers that are declared, rather than derived."""
        values = {name: getattr(self.declared, name) for name in NUMBERS}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def is_variant(self) -> bool:
        """Whether it differs from the experiment of the tables in more than recipe and mesh."""
        own_rows = (SIZES.get(self.size.name), PHASES.get(self.phase.name))
        has_own_name = self.name != self.table_name
        return bool(self.by_hand) or has_own_name or own_rows != (self.size, self.phase)

    @property
    def start(self) -> str | None:
        """The experiment whose weights it starts from; None for random weights."""
        if self.declared.start is not None:
            return self.declared.start
        return self.phase.start and f"CodeGen{self.size.name}{self.phase.start}"

    @property
    def mixture(self) -> str:
        """The seqio mixture it is trained on."""
        is_prepared = self.profile.data == Data.PREPARED
        return self.phase.mixture if is_prepared else nano_mixture(self.size, self.phase)

    @property
    def vocabulary(self) -> Vocabulary:
        """The vocabulary that tokenises its text: the size's own, or the phase's."""
        return self.size.vocabulary or self.phase.vocabulary

    @property
    def unverified(self) -> tuple[str, ...]:
        """The published numbers that were not seen at their source."""
        unverified = self.phase.unverified.get(self.size.name, ())
        return tuple(name for name in unverified if name not in self.by_hand)

    @property
    def parameters(self) -> int:
        """The number of trained parameters: the network's, and jaxformer's embedding bias [D]."""
        return self.size.parameters + self.recipe.embedding_bias * self.size.model_dims

    @property
    def mesh(self) -> Mesh:
        """The mesh to run on; raises ValueError if none is declared and the size has none."""
        return self.declared.mesh or self._placement("mesh").mesh

    @property
    def row_length(self) -> int:
        """T, tokens in a row."""
        return self.declared.row_length or self.size.context

    @property
    def batch_rows(self) -> int:
        """Rows in one optimizer step, over the whole mesh."""
        if self.declared.batch_rows is not None:
            return self.declared.batch_rows
        tokens = self.phase.batch_tokens
        if tokens is None or self._budget:
            tokens = self._entry(
                "batch_rows", self.size.batch_tokens, self.recipe.batch, "batch_tokens"
            )
        rows = tokens // self.row_length
        if not rows:
            raise InvalidValueError(
                f"{self.name}: a batch of {tokens:,} tokens has no row of {self.row_length:,}; "
                "expected a shorter row_length, or batch_rows"
            )
        micro_batch = self._table_micro_batch("batch_rows")
        return rows // micro_batch * micro_batch or rows

    @property
    def micro_batch_rows(self) -> int:
        """Rows in one accumulation step; raises ValueError if the mesh does not fit."""
        size, mesh, rows = self.size, self.mesh, self.batch_rows
        if size.heads % mesh.shape[2]:
            raise InvalidValueError(
                f"mesh {mesh}: mdl={mesh.shape[2]} does not divide the {size.heads} heads of "
                f"{size.name}; expected a divisor of {size.heads}"
            )
        shards, declared = mesh.batch_shards, self.declared.micro_batch_rows
        if rows % shards:
            raise InvalidValueError(
                f"mesh {mesh}: replica x data = {shards} does not divide {self.name}'s batch of "
                f"{rows} rows; expected a divisor of {rows} ({VARIABLES['mesh'].name} names "
                "another mesh)"
            )
        if declared is None:
            most = max(shards, min(rows, self._table_micro_batch("micro_batch_rows")))
            multiples = range(most - most % shards, 0, -shards)
            return next(multiple for multiple in multiples if rows % multiple == 0)
        if declared % shards or rows % declared:
            raise InvalidValueError(
                f"{self.name}: micro_batch_rows={declared}; expected a divisor of the batch's "
                f"{rows} rows that replica x data = {shards} of mesh {mesh} divides"
            )
        return declared

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        if self.declared.steps is not None:
            return self.declared.steps
        if self._budget:
            return self._budget.steps
        if self.phase.tokens is not None:
            return -(-self.phase.tokens // self.batch_tokens)
        assert self.phase.steps is not None  # a phase has either tokens or steps
        return self.phase.steps

    @property
    def warmup_steps(self) -> int:
        """Steps of linear warm-up from 0."""
        if self.declared.warmup_steps is not None:
            return self.declared.warmup_steps
        steps = self.phase.warmup_steps
        if self._budget:
            steps = self._budget.warmup_steps
            if self.steps >= self._budget.steps:  # the budget's warm-up was tuned for its steps
                return steps
        # The rate of the first step of a warm-up is 0: a run of one step would learn nothing.
        return min(steps, max(1, self.steps // 10), self.steps - 1)

    @property
    def anneal_steps(self) -> int:
        """Steps of cosine after the warm-up."""
        if self.declared.anneal_steps is not None:
            return self.declared.anneal_steps
        left = self.steps - self.warmup_steps
        own = None if self._budget else self.phase.anneal_steps
        if self.recipe.cosine_ends == CosineEnds.ANNEAL_STEPS and own:
            return min(own, left)
        return left

    @property
    def learning_rate(self) -> float:
        """The maximum of the learning rate."""
        if self.declared.learning_rate is not None:
            return self.declared.learning_rate
        return self._table_learning_rate()

    @property
    def learning_rate_end(self) -> float:
        """The floor of the learning rate."""
        if self.declared.learning_rate_end is not None:
            return self.declared.learning_rate_end
        floor = self.phase.learning_rate_end.get(
            self.size.name, self.size.learning_rate_end.get(self.phase.rates)
        )
        if floor is None or self.recipe.floor != Floor.CONFIG:
            return self.learning_rate / 10
        if self.declared.learning_rate is None:
            return floor
        return self.learning_rate * floor / self._table_learning_rate()

    @property
    def batch_tokens(self) -> int:
        """Tokens in one optimizer step."""
        return self.batch_rows * self.row_length

    @property
    def tokens(self) -> int:
        """Tokens read in the whole run."""
        return self.steps * self.batch_tokens

    @property
    def accumulation_steps(self) -> int:
        """Micro-batches in one optimizer step."""
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
        """The command that trains it."""
        return f"python -m paxml.main --exp={self.module}.{self.name} --job_log_dir=DIR"

    def check_mesh(self) -> None:
        """Checks that the mesh fits.

        Raises:
            ValueError: The mesh cannot hold the network or split the batch.
        """
        _ = self.micro_batch_rows

    def _check(self) -> None:
        """Raises ValueError if numbers contradict each other, or a table lacks one."""
        if self.row_length > self.size.context:
            raise InvalidValueError(
                f"{self.name}: row_length={self.row_length:,}; expected at most "
                f"{self.size.context:,}, the context of size {self.size.name}"
            )
        if self.batch_tokens and self.anneal_steps < 1:
            raise InvalidValueError(
                f"{self.name}: warmup_steps={self.warmup_steps:,} leaves none of {self.steps:,} "
                f"steps for the cosine; expected at most {self.steps - 1:,}, or anneal_steps too"
            )
        if self.learning_rate_end > self.learning_rate:
            raise InvalidValueError(
                f"{self.name}: learning_rate_end={self.learning_rate_end:g} is above "
                f"learning_rate={self.learning_rate:g}; expected at most that"
            )

    @property
    def _budget(self) -> Budget | None:
        return self.profile.budget(self.phase.name)

    def _table_learning_rate(self) -> float:
        if self.size.name in self.phase.learning_rate:
            return self.phase.learning_rate[self.size.name]
        rates = self.size.learning_rate
        return self._entry("learning_rate", rates, self.phase.rates, "learning_rate")

    def _table_micro_batch(self, field: str) -> int:
        """The table's micro-batch rows, times the number of rows that fit into the context.

        Args:
            field: What a declaration gives instead, for a size without a placement.
        """
        rows = self._placement(field).micro_batch_rows
        return rows * (self.size.context // self.row_length)

    def _placement(self, name: str) -> Placement:
        """The size's first placement; raises ValueError if the table has none for the size."""
        if self.size.name not in PLACEMENTS:
            raise InvalidValueError(
                f"{self.name}: the table of meshes has nothing for size {self.size.name} (it has "
                f"{', '.join(PLACEMENTS)}); expected {name} in the declaration"
            )
        return PLACEMENTS[self.size.name][0]

    def _entry(self, name: str, table: Mapping[str, T], key: str, field: str) -> T:
        """An entry of one of the size's tables; raises ValueError if it is missing."""
        if key not in table:
            raise InvalidValueError(
                f"{self.name}: {field} of size {self.size.name} has nothing for {str(key)!r} "
                f"(it has {', '.join(table) or 'no entry'}); expected {name} in the declaration"
            )
        return table[key]


def declare(
    size: Size, phase: Phase, recipe: Recipe = DEFAULT_RECIPE, mesh: Mesh | None = None
) -> Declaration:
    """Declares one experiment whose numbers all follow from the tables.

    Raises:
        ValueError: See `Declaration`.
    """
    module = MODULES.get(phase.name, DOOR)
    return Declaration(size=size, phase=phase, recipe=recipe, mesh=mesh, module=module)


def configured(declaration: Declaration, settings: Settings) -> Declaration:
    """Returns the declaration with the mesh and the recipe of the settings, if they are set.

    Raises:
        ValueError: The mesh cannot hold the network or split the batch.
    """
    changes: dict[str, Any] = {"recipe": settings.recipe, "mesh": settings.mesh}
    changes = {name: value for name, value in changes.items() if value is not None}
    try:
        declaration = replace(declaration, **changes)
        declaration.check_mesh()
    except InvalidValueError as error:
        if settings.mesh is None:
            raise
        variable = VARIABLES["mesh"].name
        raise InvalidValueError(f"{variable}={settings.mesh}: {error}") from error
    return declaration


def declarations(phases: Mapping[str, Phase] = PHASES) -> Iterator[Declaration]:
    """Yields every experiment of the tables: phase by phase, small to large.

    Raises:
        ValueError: A phase is in the table under a name that is not its own; or see `ancestors`.
    """
    for name, phase in phases.items():
        if name != phase.name:
            raise InvalidValueError(f"phase {phase.name} is in the table as {name!r}")
        ancestors(phase, phases)
        for size in SIZES.values():
            yield declare(size, phase)


def find_declaration(name: str, phases: Mapping[str, Phase] = PHASES) -> Declaration:
    """Returns the experiment called `name`, with or without the leading `codegen.`.

    Raises:
        KeyError: The name is unknown; the message has the nearest.
    """
    by_name = {declaration.name: declaration for declaration in declarations(phases)}
    plain = name.removeprefix(f"{DOOR}.")
    if plain not in by_name:
        raise UnknownNameError(messages.unknown("experiment", plain, by_name))
    return by_name[plain]
