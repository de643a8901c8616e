"""What may be wrong with an input."""

from __future__ import annotations

from collections.abc import Sequence

from codegen_pax.data.sources import paths
from codegen_pax.errors import InvalidValueError

_NAMED = 10  # inputs in one message


class UnreadableInputError(InvalidValueError):
    """An input of which no record can be read: others may be all right."""


class DamagedInputError(UnreadableInputError):
    """An input that ends early or cannot be unpacked; nothing of it can be trusted."""

    def __init__(self, path: str, found: object):
        super().__init__(
            f"{paths.shown(path)} is damaged ({found}): fetch it again, or leave it out of --input"
        )


class ForeignInputError(UnreadableInputError):
    """An input that is something else than its name says."""

    def __init__(self, path: str, looks: str, helps: str):
        super().__init__(f"cannot read {paths.shown(path)}: it looks like {looks}; {helps}")


class InputsError(InvalidValueError):
    """Several inputs cannot be read; the message has what is wrong with each."""

    def __init__(self, errors: Sequence[object]):
        named = "; ".join(map(str, errors[:_NAMED]))
        more = f"; and {len(errors) - _NAMED:,} more" if len(errors) > _NAMED else ""
        super().__init__(f"{len(errors):,} inputs cannot be read: {named}{more}")


class ChangedInputError(InvalidValueError):
    """An input that was another when it was read again."""

    def __init__(self, path: str, found: object):
        super().__init__(
            f"{paths.shown(path)} changed while it was prepared ({found}); wanted inputs that"
            " nobody writes to"
        )
