"""The licences that a corpus may hold, as SPDX expressions."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping

from codegen_pax.errors import InvalidValueError

RULES = ("licence_unknown", "licence_not_allowed")
UNKNOWN = "unknown"  # in counts: a licence that is not an SPDX expression
ANY = ("any",)  # in place of SPDX identifiers: no document is dropped for its licence

MAX_CHARACTERS = 1_000  # ours: a longer text is the text of a licence, or nonsense
_MAX_DEPTH = 8  # ours: of nested lists and structs in a cell
# The fields that name a licence in a struct, the best first: of GitHub's API and exports (`key`,
# `name`, `spdx_id`), SPDX documents (`licenseId`), npm (`type`).
_STRUCT_FIELDS = (
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

# SPDX identifiers. Our choice: the licences that require no more than a notice, among those that
# GitHub distinguishes and those that the Blue Oak Council lists as permissive.
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
    # Imported here because reading SPDX's list takes a second, and not every run checks licences.
    from license_expression import get_spdx_licensing

    return get_spdx_licensing()


def to_expression(value: object) -> str:
    """Return the licence that a field of a record states, as one expression; '' if it has none.

    Args:
        value: Text, bytes, None, or a list of licences, all of which bind; or a struct that names
            one (`_STRUCT_FIELDS`), wraps one, or maps each to a number (a detector's confidence).
            For anything else the result is a text that is not an expression.
    """
    try:
        expression = " ".join(_to_expression(value, _MAX_DEPTH).split())
    except RecursionError:  # JSON may be nested as deeply as Python allows
        return UNKNOWN
    is_short = len(expression) <= MAX_CHARACTERS
    return expression if is_short else f"{expression[:MAX_CHARACTERS]}…"


def _to_expression(value: object, depth: int) -> str:
    if value is None or value != value:  # pandas writes NaN for a missing value
        return ""
    if isinstance(value, bytes):
        return _to_text(value)
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
            return _to_expression(dict(value), depth)  # a map in pyarrow
        return _all_of(_to_expression(item, depth - 1) for item in value) if depth else UNKNOWN
    if isinstance(value, Mapping):
        return _from_struct(value, depth - 1) if depth else UNKNOWN
    return str(value)


def _to_text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _from_struct(struct: Mapping, depth: int) -> str:
    struct = {_to_text(name): value for name, value in struct.items()}
    by_lower_name = {name.lower(): value for name, value in struct.items()}
    for name in _STRUCT_FIELDS:
        if expression := _to_expression(by_lower_name.get(name), depth):
            return expression
    if all(isinstance(value, (int, float)) for value in struct.values()):
        return _all_of(struct)
    if len(struct) == 1:  # Spark, Hive and BigQuery wrap the items of a list
        return _to_expression(next(iter(struct.values())), depth)
    return UNKNOWN if any(value is not None for value in struct.values()) else ""


def _all_of(expressions: Iterable[str]) -> str:
    """Return one expression that requires all of `expressions` that are not empty."""
    stated = [expression for expression in expressions if expression]
    if len(stated) == 1:
        return stated[0]
    return " AND ".join(f"({one})" if " " in one.strip() else one for one in stated)


def resolve(identifiers: Iterable[str]) -> tuple[str, ...]:
    """Return SPDX identifiers as SPDX spells them, in order, each once; `ANY` as it is.

    Raises:
        ValueError: SPDX has no such licence (the message has the nearest), or `any` is not alone.
    """
    from codegen_pax import messages

    identifiers = tuple(identifiers)
    if any(identifier.lower() in ANY for identifier in identifiers):
        if len(identifiers) > 1:
            raise InvalidValueError(
                f"found {', '.join(identifiers)}; expected `any` alone, or SPDX identifiers"
            )
        return ANY

    known = {key.lower(): key for key in _spdx().known_symbols}
    resolved: dict[str, None] = {}
    for identifier in identifiers:
        if identifier.lower() not in known:
            raise InvalidValueError(messages.unknown("licence", identifier, known.values()))
        resolved[known[identifier.lower()]] = None
    return tuple(resolved)


@functools.lru_cache(maxsize=10_000)
def _parse(licence: str):
    """Return the tree of an SPDX expression; None if `licence` is not one."""
    if len(licence) > MAX_CHARACTERS:
        return None
    try:
        # Strict: an exception by itself is not a licence.
        return _spdx().parse(licence, validate=True, strict=True)
    except Exception:
        # license-expression raises an IndexError for `()` or `(MIT ()`, an AssertionError for
        # other malformed input. Input that it cannot read is not an expression.
        return None


@functools.lru_cache(maxsize=10_000)
def normalise(licence: str) -> str:
    """Return a licence as SPDX spells it, the same for equal expressions: `MIT` for `mit`.

    `UNKNOWN` if it is not an SPDX expression; '' if none is stated.
    """
    if not licence:
        return ""
    tree = _parse(licence)
    return UNKNOWN if tree is None else tree.simplify().render()


@functools.lru_cache(maxsize=10_000)
def rejection(licence: str, allowed: tuple[str, ...] = PERMISSIVE) -> str | None:
    """Return the rule by which a document of this licence is dropped; None if it is kept.

    Args:
        licence: An SPDX expression, or an identifier in any case, such as GitHub's `apache-2.0`.
            `OR` requires that one of its licences is allowed, `AND` that all are; an exception
            (`WITH`) only permits more.
        allowed: SPDX identifiers as `resolve` returns them.
    """
    from license_expression import LicenseWithExceptionSymbol

    if allowed == ANY:
        return None
    spdx, tree = _spdx(), _parse(licence)
    if tree is None:
        return "licence_unknown"

    def is_allowed(node) -> bool:
        if isinstance(node, spdx.AND):
            return all(map(is_allowed, node.args))
        if isinstance(node, spdx.OR):
            return any(map(is_allowed, node.args))
        if isinstance(node, LicenseWithExceptionSymbol):
            return is_allowed(node.license_symbol)
        return node.key in allowed

    return None if is_allowed(tree) else "licence_not_allowed"
