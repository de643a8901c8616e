"""Which licences a corpus may hold, as SPDX expressions."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from codegen_pax.errors import InvalidValueError

RULES = ("licence_unknown", "licence_not_allowed")
UNKNOWN = "unknown"  # what counts call a licence that is no SPDX expression

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


def check(identifiers: Iterable[str]) -> tuple[str, ...]:
    """SPDX identifiers as SPDX spells them, in order, without doubles.

    Raises ValueError for one that SPDX does not know, with the nearest.
    """
    from codegen_pax import names

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
    from license_expression import ExpressionError

    try:
        return _spdx().parse(licence, validate=True)
    except ExpressionError:
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
