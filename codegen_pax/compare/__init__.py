"""Compares the Fiddle configurations of experiments, and reports only what differs."""

from codegen_pax.compare.configurations import ExperimentConfig, flatten, format_value
from codegen_pax.compare.differences import (
    GROUPS,
    HARDWARE,
    NETWORK,
    Difference,
    find_differences,
    group_of,
    shorten_paths,
)
from codegen_pax.compare.snapshots import Change, changes_since, snapshot, strip_module

__all__ = [
    "GROUPS",
    "HARDWARE",
    "NETWORK",
    "Change",
    "Difference",
    "ExperimentConfig",
    "changes_since",
    "find_differences",
    "flatten",
    "format_value",
    "group_of",
    "shorten_paths",
    "snapshot",
    "strip_module",
]
