"""What differs between experiments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codegen_pax.compare.flatten import Scalar, described, entries
from codegen_pax.compare.grouping import GROUPS, group_of
from codegen_pax.errors import InvalidValueError

if TYPE_CHECKING:
    from paxml import base_experiment


@dataclass(frozen=True)
class Side:
    """One experiment.

    Attributes:
      name: as the person gave it.
      parts: 'task', 'datasets', ... -> its Fiddle configuration, or a list of them.
    """

    name: str
    parts: Mapping[str, object]

    @classmethod
    def of(cls, name: str, experiment: base_experiment.BaseExperiment) -> Side:
        """Everything that Pax asks of an experiment."""
        return cls(
            name,
            {
                "task": experiment.task(),
                "datasets": experiment.datasets(),
                "decode_datasets": experiment.decode_datasets(),
                "input_specs": experiment.get_input_specs_provider_params(),
            },
        )


@dataclass(frozen=True)
class Difference:
    """One path whose values are not all equal.

    Attributes:
      path: from the part on: `task.model.lm_tpl.model_dims`.
      group: one of `GROUPS`.
      values: name of the experiment -> its value; no entry where there is no such path.
    """

    path: str
    group: str
    values: Mapping[str, Scalar]


def differences(sides: Sequence[Side]) -> list[Difference]:
    """Every path at which the sides are not all equal, by group, in the configurations' order.

    Raises:
      ValueError: fewer than two sides, or two of one name and different configurations.
    """
    if len(sides) < 2:
        raise InvalidValueError(f"found {len(sides)} experiment to compare; wanted at least two")
    tables = [_table(side) for side in sides]
    by_name: dict[str, dict[str, Scalar]] = {}
    for side, table in zip(sides, tables, strict=True):
        if by_name.setdefault(side.name, table) != table:
            raise InvalidValueError(f"two different experiments are called {side.name!r}")
    found = [
        Difference(
            path=path,
            group=group_of(path),
            values={name: table[path] for name, table in by_name.items() if path in table},
        )
        for path in dict.fromkeys(path for table in tables for path in table)
        if len({described(table[path]) if path in table else None for table in tables}) > 1
    ]
    return sorted(found, key=lambda difference: GROUPS.index(difference.group))


def _table(side: Side) -> dict[str, Scalar]:
    return {
        path: value
        for part, config in side.parts.items()
        for path, value in entries(config, part).items()
    }
