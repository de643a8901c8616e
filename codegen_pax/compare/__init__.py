"""Experiments side by side: what differs between their Fiddle configurations, and nothing else."""

from codegen_pax.compare.changes import Change, changes
from codegen_pax.compare.differences import Difference, Side, differences
from codegen_pax.compare.flatten import described, entries
from codegen_pax.compare.grouping import GROUPS, group_of
from codegen_pax.compare.labels import labels
from codegen_pax.compare.snapshot import snapshot

__all__ = [
    "GROUPS",
    "Change",
    "Difference",
    "Side",
    "changes",
    "described",
    "differences",
    "entries",
    "group_of",
    "labels",
    "snapshot",
]
