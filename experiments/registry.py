"""Registers every experiment of the tables with paxml, and declares new phases."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import seqio
from paxml import experiment_registry

from codegen_pax import messages
from codegen_pax.errors import InvalidValueError, UnknownNameError
from experiments.declaration import Declaration, declarations, declare
from experiments.experiment import CodeGenExperiment
from experiments.phases import MODULES, PHASES, Phase, ancestors, nano_mixture
from experiments.report import report
from experiments.sizes import SIZES
from tasks import corpora, nano

_classes: dict[str, type[CodeGenExperiment]] = {}


def register_all() -> None:
    """Registers one experiment for each size and phase of the tables, each only once."""
    for phase in PHASES.values():
        _register_mixtures(phase)
    for declaration in declarations():
        if declaration.name not in _classes:
            _register(declaration)


def declare_phase(phase: Phase, module: str | None = None) -> dict[str, type[CodeGenExperiment]]:
    """Adds a phase: its seqio tasks and mixtures, and one experiment of every size.

    Call it in a module of your own, which `paxml.main --exp=<module>.CodeGen<Size><Phase>` imports:

        declare_phase(Phase("Solidity", languages=("solidity",), start="Mono", tokens=10**10))

    Args:
        phase: The new row.
        module: The module under which the experiments are registered; the caller's if None.

    Returns:
        Name of the size -> experiment.

    Raises:
        ValueError: The phase exists already, its start phase is unknown, or it has no languages
            and its mixture is not registered.
    """
    if phase.name in PHASES:
        by = MODULES.get(phase.name, "this project")
        raise InvalidValueError(
            f"phase {phase.name!r} is there already, declared by {by}; expected a new name"
        )
    ancestors(phase)
    module = module or sys._getframe(1).f_globals["__name__"]
    declared = {
        name: Declaration(declare(size, phase).declared, module=module)
        for name, size in SIZES.items()
    }
    _register_mixtures(phase)
    PHASES[phase.name], MODULES[phase.name] = phase, module
    return {size: _register(declaration) for size, declaration in declared.items()}


def experiment_class(name: str) -> type[CodeGenExperiment]:
    """Returns the experiment called `name`, with or without its module, as `codegen.`.

    Raises:
        KeyError: The name is unknown; the message has the nearest.
    """
    module, _, plain = name.rpartition(".")
    if plain not in _classes or module not in ("", _classes[plain].__module__):
        raise UnknownNameError(messages.unknown("experiment", name, _classes))
    return _classes[plain]


def _register_mixtures(phase: Phase) -> None:
    """Registers the mixtures of a language phase, unless `tasks` has them already."""
    known = {*seqio.MixtureRegistry.names(), *seqio.TaskRegistry.names()}
    mixtures: dict[str, tuple[str, Callable[..., seqio.Mixture]]] = {
        phase.mixture: ("mixture", corpora.language_mixture)
    }
    for size in SIZES.values():
        if size.profile.on_laptop:
            mix = functools.partial(
                nano.language_mixture, vocabulary_name=(size.vocabulary or phase.vocabulary).value
            )
            mixtures[nano_mixture(size, phase)] = ("nano_mixture", mix)
    for name, (field, register) in mixtures.items():
        if name in known:
            continue
        if not phase.languages:
            message = messages.unknown("task or mixture", name, sorted(known))
            raise InvalidValueError(
                f"phase {phase.name}: {field}: {message}; expected one of those, or "
                "languages to mix"
            )
        register(name, phase.languages)


def _register(declaration: Declaration) -> type[CodeGenExperiment]:
    """Registers a class, which stock paxml finds as `--exp=<module>.<Name>`."""
    cls: Any = type(
        declaration.name,
        (CodeGenExperiment,),
        {"DECLARATION": declaration, "__module__": declaration.module},
    )
    cls.__doc__ = report(cls.DECLARATION)
    experiment_registry.register(cls)
    _classes[declaration.name] = cls
    return cls
