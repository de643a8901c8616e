"""`codegen-pax compare`: what differs between experiments."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from codegen_pax.cli.core.arguments import add_module_argument, class_path, find_experiments
from codegen_pax.cli.core.description import Description, derived_numbers, format_cell
from codegen_pax.errors import UsageError
from codegen_pax.silent_imports import silenced
from experiments.declaration import Declaration
from experiments.declared import DOOR
from experiments.settings import from_environment

if TYPE_CHECKING:
    from codegen_pax.compare import Difference, ExperimentConfig

ABSENT = "absent"  # printed for an experiment that lacks the path
DERIVED = "derived"  # the group of the numbers that follow from the settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("name", nargs="+", help="an experiment, as in CodeGen16BMono; two or more")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead")
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Prints every setting that differs, then the numbers that follow from the settings.

    The settings are those of the Fiddle configurations as they would run here, with the
    environment's mesh and recipe. The folder of the start weights is left out: it belongs to a run.

    Raises:
        UsageError: Fewer than two names, or an unknown one.
    """
    if len(args.name) < 2:
        raise UsageError(f"found one experiment, {args.name[0]}; expected at least two to compare")
    declarations = find_experiments(args.name, args.module)
    from codegen_pax.cli.core.terminal import waiting

    with waiting("building the configurations (importing Pax takes half a minute)"):
        configs, derived = _configurations(declarations)
    from codegen_pax.compare import find_differences

    differences = find_differences(configs)
    if args.json:
        print(json.dumps(_to_json(differences, derived), indent=2))
    elif not differences:
        print(f"Nothing differs between {' and '.join(args.name)}.")
    else:
        _print(differences, derived)
    return 0


def _configurations(
    declarations: Sequence[Declaration],
) -> tuple[list[ExperimentConfig], dict[str, Description]]:
    """Builds the configurations; returns them, and name -> the derived numbers."""
    # Building configurations needs no device, so this machine's accelerators are left free.
    os.environ["JAX_PLATFORMS"] = "cpu"
    with silenced():
        importlib.import_module(DOOR)
    from paxml import experiment_registry

    from codegen_pax.compare import ExperimentConfig

    registered = experiment_registry.get_all()
    paths = {class_path(declaration) for declaration in declarations}
    is_ambiguous = len(paths) > len({declaration.name for declaration in declarations})

    settings = dataclasses.replace(from_environment(), start_from=None)
    configs, derived = [], {}
    for declaration in declarations:
        experiment = registered[class_path(declaration)](settings)
        name = class_path(declaration) if is_ambiguous else declaration.name
        configs.append(ExperimentConfig.of(name, experiment))
        derived[name] = derived_numbers(experiment.declaration())
    return configs, derived


def _to_json(
    differences: Sequence[Difference], derived: Mapping[str, Description]
) -> list[Description]:
    """Returns an object for each row.

    Returns:
        Objects with `group`, `path` and `values`, which has no value for an experiment without the
        path.
    """
    settings = [
        {"group": difference.group, "path": difference.path, "values": dict(difference.values)}
        for difference in differences
    ]
    return settings + [
        {"group": DERIVED, "path": key, "values": {name: derived[name][key] for name in derived}}
        for key in (next(iter(derived.values())) if differences else ())
    ]


def _print(differences: Sequence[Difference], derived: Mapping[str, Description]) -> None:
    from codegen_pax.cli.core.terminal import print_sections
    from codegen_pax.compare import GROUPS, format_value, shorten_paths

    names = list(derived)
    sections = {}
    for group in GROUPS:
        members = [difference for difference in differences if difference.group == group]
        short = shorten_paths(difference.path for difference in members)
        sections[group] = [
            (
                short[difference.path],
                *(
                    format_value(difference.values[name]) if name in difference.values else ABSENT
                    for name in names
                ),
            )
            for difference in members
        ]
    sections[DERIVED] = [
        (key, *(format_cell(derived[name][key]) for name in names)) for key in derived[names[0]]
    ]
    print_sections(("what differs", *names), sections)
