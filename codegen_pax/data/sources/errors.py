"""Errors about inputs."""

from __future__ import annotations

from collections.abc import Sequence

from codegen_pax.data.sources import storage
from codegen_pax.errors import InvalidValueError

_MAX_LISTED = 10  # inputs in one message


class UnreadableInputError(InvalidValueError):
    """No record of this input can be read; other inputs may be fine."""


class DamagedInputError(UnreadableInputError):
    """The input is truncated or cannot be decompressed, so nothing in it can be trusted."""

    def __init__(self, path: str, reason: object):
        super().__init__(
            f"{storage.escape_path(path)} is damaged ({reason}): fetch it again, or leave it out of"
            " --input"
        )


class ForeignInputError(UnreadableInputError):
    """The input is not what its name says."""

    def __init__(self, path: str, content: str, remedy: str):
        super().__init__(
            f"cannot read {storage.escape_path(path)}: it looks like {content}; {remedy}"
        )


class InputsError(InvalidValueError):
    """Several inputs cannot be read; the message says what is wrong with each."""

    def __init__(self, errors: Sequence[object]):
        listed = "; ".join(map(str, errors[:_MAX_LISTED]))
        more = f"; and {len(errors) - _MAX_LISTED:,} more" if len(errors) > _MAX_LISTED else ""
        super().__init__(f"{len(errors):,} inputs cannot be read: {listed}{more}")
