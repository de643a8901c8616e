"""The settings: the CODEGEN_* environment variables, which are read here and nowhere else.

The stock Pax binary has no flags for the settings of this project, so they are environment
variables. They are read once, by `CodeGenExperiment` when the binary makes it, or by a verb of
`codegen-pax`. Everything after that is a function of a declaration and a `Settings`:

    settings = from_environment()
    declaration = configured(find_declaration("CodeGen350MMono"), settings)
    experiment = codegen.CodeGen350MMono(settings)

`VARIABLES` describes every variable, for `codegen-pax doctor` and the documentation. Standard
library only.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from codegen_pax import messages
from codegen_pax.errors import InvalidValueError, UnknownNameError
from experiments.meshes import Mesh, parse_mesh
from experiments.recipes import Recipe, find_recipe

PREFIX = "CODEGEN_"
SCRATCH = "scratch"  # the value of CODEGEN_START_FROM for random weights


class Schedule(StrEnum):
    """The learning-rate schedule that a resumed job follows."""

    RECEIPT = "receipt"  # the schedule in its receipt
    DECLARED = "declared"  # the schedule that its experiment declares now


@dataclass(frozen=True)
class Settings:
    """The values of the CODEGEN_* variables; None, or empty, if a variable is unset.

    Attributes:
        data: Folder of the prepared corpora, local or a URL.
        evaluate: Mixtures to evaluate on instead of the phase's own.
        mesh: The mesh to run on instead of the declared one.
        prompts: File of prompts to decode instead of the phase's own, local or a URL.
        recipe: The recipe to use instead of the declared one.
        schedule: The schedule that a resumed job follows.
        start_from: Job directory whose last weights a phase starts from, or 'scratch'.
    """

    data: str | None = None
    evaluate: tuple[str, ...] = ()
    mesh: Mesh | None = None
    prompts: str | None = None
    recipe: Recipe | None = None
    schedule: Schedule | None = None
    start_from: str | None = None

    def to_environment(self) -> dict[str, str]:
        """Returns the variables that are set, as `from_environment` reads them."""
        values = {variable: getattr(self, variable.field) for variable in VARIABLES.values()}
        return {variable.name: variable.write(value) for variable, value in values.items() if value}


@dataclass(frozen=True)
class Variable:
    """One CODEGEN_* variable.

    Attributes:
        field: The field of `Settings` that holds its value.
        values: The values that it may have.
        default: What applies if it is unset.
        description: What it does, in one or two sentences.
        parse: Text -> value. Raises InvalidValueError or UnknownNameError.
        write: Value -> text, the inverse.
    """

    field: str
    values: str
    default: str
    description: str
    parse: Callable[[str], Any] = str
    write: Callable[[Any], str] = str

    @property
    def name(self) -> str:
        """The name of the variable, such as CODEGEN_MESH."""
        return f"{PREFIX}{self.field.upper()}"

    def read(self, environment: Mapping[str, str] = os.environ) -> Any:
        """Returns the value of this variable; the default if it is unset or empty.

        Raises:
            InvalidValueError, UnknownNameError: The text is not a valid value; the message names
                the variable.
        """
        text = environment.get(self.name, "").strip()
        if not text:
            return getattr(Settings, self.field)
        try:
            return self.parse(text)
        except UnknownNameError as error:
            raise UnknownNameError(f"{self.name}: {error}") from None
        except InvalidValueError as error:
            raise InvalidValueError(f"{self.name}={text}: {error}") from None


def _parse_schedule(text: str) -> Schedule:
    if text not in list(Schedule):
        raise UnknownNameError(messages.unknown("schedule", text, list(Schedule)))
    return Schedule(text)


# Field of `Settings` -> its variable.
VARIABLES: Mapping[str, Variable] = MappingProxyType(
    {
        variable.field: variable
        for variable in (
            Variable(
                "data",
                values="a folder, local or a URL such as gs://bucket/corpora",
                default="none: prepared corpora cannot be read",
                description="Folder of the prepared corpora: each is a folder in it, as "
                "`codegen-pax prepare` writes it.",
            ),
            Variable(
                "evaluate",
                values="names of seqio mixtures or tasks, separated by commas",
                default="the phase's own mixture",
                description="Mixtures to evaluate on, one evaluation each.",
                parse=lambda text: tuple(filter(None, map(str.strip, text.split(",")))),
                write=",".join,
            ),
            Variable(
                "mesh",
                values="devices along replica x data x mdl, as 1x64x4",
                default="the mesh that is declared for the size",
                description="Mesh of devices to run on.",
                parse=parse_mesh,
            ),
            Variable(
                "prompts",
                values="a file, local or a URL: .jsonl, or text between lines of ---",
                default="the phase's own prompts",
                description="Prompts to decode, of at most 64 tokens each. A line of a .jsonl file "
                "is a string, or an object with `prompt`, or with `instruction` and `input`.",
            ),
            Variable(
                "recipe",
                values="jaxformer or paper",
                default="the recipe that is declared, jaxformer unless you change it",
                description="Recipe to train by.",
                parse=find_recipe,
                write=lambda recipe: recipe.name,
            ),
            Variable(
                "schedule",
                values="receipt or declared",
                default="that of the job's receipt; another that is declared by hand is refused",
                description="Learning-rate schedule that a resumed job follows.",
                parse=_parse_schedule,
            ),
            Variable(
                "start_from",
                values="a job directory, local or a URL; or scratch for random weights",
                default="none: real sizes refuse to start a later phase, Nano starts from random "
                "weights",
                description="Job whose last weights a phase starts from, with a fresh optimizer at "
                "step 0.",
            ),
        )
    }
)
assert [*VARIABLES] == [field.name for field in fields(Settings)]


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Reads the settings.

    An unknown variable that begins with CODEGEN_ is an error, not a warning. Most are misspelt; a
    run that ignored one could train for days with the wrong settings, and nobody reads a warning
    among the thousands of lines of Pax's log. A variable of another program is quickly unset.

    Args:
        environment: Variable -> text; by default the environment of this process.

    Raises:
        InvalidValueError: A text is not a value of its variable.
        UnknownNameError: A recipe, schedule or variable is unknown; the message has the nearest.
    """
    known = [variable.name for variable in VARIABLES.values()]
    for name in sorted(environment):
        if name.startswith(PREFIX) and name not in known:
            raise UnknownNameError(
                f"{messages.unknown('environment variable of this project', name, known)}; unset "
                "it, or correct its name"
            )
    return Settings(**{field: variable.read(environment) for field, variable in VARIABLES.items()})
