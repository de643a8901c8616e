"""Which licences a corpus may hold, as SPDX expressions."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from codegen_pax.errors import InvalidValueError

RULES = ("licence_unknown", "licence_not_allowed")
UNKNOWN = "unknown"  # what counts call a licence that is no SPDX expression
ANY = ("any",)  # in place of SPDX identifiers: no document is dropped for its licence

MAX_CHARACTERS = 1_000  # ours: what is longer is a licence's text, or nonsense, and no expression
_MAX_DEPTH = 8  # of lists and structs in one another, in a cell: ours
# Where a struct names a licence, the best first: GitHub's API and exports (`key`, `name`,
# `spdx_id`), SPDX documents (`licenseId`), npm (`type`).
_FIELDS = (
    "spdx_id",
    "spdx",
    "spdx_license_id",
    "licenseid",
    "expression",
    "identifier",
    "id",
    "key",
    "type",
    "name",
    "license",
    "licence",
)

# Ours: of the licences that GitHub tells apart and the Blue Oak Council's list of permissive ones,
# those that ask for no more than a notice. SPDX identifiers.
PERMISSIVE = (
    "0BSD",
    "AFL-3.0",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "CC0-1.0",
    "ECL-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MulanPSL-2.0",
    "NCSA",
    "PSF-2.0",
    "PostgreSQL",
    "Python-2.0",
    "UPL-1.0",
    "Unlicense",
    "WTFPL",
    "X11",
    "Zlib",
)


@functools.cache
def _spdx():
    # Reading SPDX's list takes a second: only who checks a licence pays it.
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


def stated(value: object) -> str:
    """What a field of a record says of its licence, as one expression; '' if it says nothing.

    Args:
      value: text, bytes, or a list of licences, all of which bind; a struct that names one
        (`_FIELDS`), wraps one, or gives each a number (how sure a detector is); None.

    What is understood as none of these is returned as a text that is no expression.
    """
    try:
        found = " ".join(_stated(value, _MAX_DEPTH).split())
    except RecursionError:  # JSON may be nested as deep as Python goes
        return UNKNOWN
    return found if len(found) <= MAX_CHARACTERS else f"{found[:MAX_CHARACTERS]}…"


def _stated(value: object, depth: int) -> str:
    if value is None or value != value:  # NaN is what pandas writes for nothing
        return ""
    if isinstance(value, bytes):
        return _name(value)
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
            return _stated(dict(value), depth)  # a map, as pyarrow gives it
        return _joined(_stated(item, depth - 1) for item in value) if depth else UNKNOWN
    if isinstance(value, Mapping):
        return _of_struct(value, depth - 1) if depth else UNKNOWN
    return str(value)


def _name(found: object) -> str:
    return found.decode("utf-8", "replace") if isinstance(found, bytes) else str(found)


def _of_struct(struct: Mapping, depth: int) -> str:
    struct = {_name(name): value for name, value in struct.items()}
    by_name = {name.lower(): value for name, value in struct.items()}
    for name in _FIELDS:
        if found := _stated(by_name.get(name), depth):
            return found
    if all(isinstance(value, (int, float)) for value in struct.values()):
        return _joined(struct)
    if len(struct) == 1:  # what Spark, Hive and BigQuery put around the items of a list
        return _stated(next(iter(struct.values())), depth)
    return UNKNOWN if any(value is not None for value in struct.values()) else ""


def _joined(several: Iterable[str]) -> str:
    """One expression that holds all; what is found of nothing is left out."""
    found = [one for one in several if one]
    if len(found) == 1:
        return found[0]
    return " AND ".join(f"({one})" if " " in one.strip() else one for one in found)


def check(identifiers: Iterable[str]) -> tuple[str, ...]:
    """SPDX identifiers as SPDX spells them, in order, without doubles; `ANY` as it is.

    Raises ValueError for one that SPDX does not know, with the nearest, and for `any` among others.
    """
    from codegen_pax import names

    identifiers = tuple(identifiers)
    if any(identifier.lower() in ANY for identifier in identifiers):
        if len(identifiers) > 1:
            raise InvalidValueError(
                f"found {', '.join(identifiers)}; wanted `any` alone, or SPDX identifiers"
            )
        return ANY

    known = {key.lower(): key for key in _spdx().known_symbols}
    found = {}
    for identifier in identifiers:
        if identifier.lower() not in known:
            raise InvalidValueError(names.unknown("licence", identifier, known.values()))
        found[known[identifier.lower()]] = None
    return tuple(found)


@functools.lru_cache(maxsize=10_000)
def _parsed(licence: str):
    """The tree of an SPDX expression; None if it is none."""
    if len(licence) > MAX_CHARACTERS:
        return None
    try:
        return _spdx().parse(licence, validate=True, strict=True)  # an exception is no licence
    except Exception:
        # For `()` or `(MIT ()` license-expression raises an IndexError, for others an
        # AssertionError: whatever it cannot read is no expression.
        return None


@functools.lru_cache(maxsize=10_000)
def normal(licence: str) -> str:
    """A licence as SPDX spells it, the same for equal expressions: `MIT` for `mit`.

    `UNKNOWN` if it is no SPDX expression; '' if none was found.
    """
    if not licence:
        return ""
    tree = _parsed(licence)
    return UNKNOWN if tree is None else tree.simplify().render()


@functools.lru_cache(maxsize=10_000)
def rejection(licence: str, allowed: tuple[str, ...] = PERMISSIVE) -> str | None:
    """The rule by which a document of this licence is dropped; None if it is kept.

    Args:
      licence: an SPDX expression, or an identifier in any case, as GitHub's `apache-2.0`. Of `OR`
        one licence must be allowed, of `AND` all; an exception (`WITH`) only permits more.
      allowed: SPDX identifiers as `check` returns them.
    """
    from license_expression import LicenseWithExceptionSymbol

    if allowed == ANY:
        return None
    spdx, tree = _spdx(), _parsed(licence)
    if tree is None:
        return "licence_unknown"

    def fits(node) -> bool:
        if isinstance(node, spdx.AND):
            return all(map(fits, node.args))
        if isinstance(node, spdx.OR):
            return any(map(fits, node.args))
        if isinstance(node, LicenseWithExceptionSymbol):
            return fits(node.license_symbol)
        return node.key in allowed

    return None if fits(tree) else "licence_not_allowed"
