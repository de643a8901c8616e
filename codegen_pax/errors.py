"""Errors that are meant for the user: one line that says what to mend. Standard library only.

Whatever raises a `UserError` has a message for a person: the thing, what was found, what was
wanted. The command prints that line alone; every other exception is a defect of the program and
keeps its traceback. The operating system's own refusals (no such file, no space left: see
`is_from_the_system`) are the user's too, wherever they arise.

Each class is also the built-in exception that a Python caller expects.
"""

from __future__ import annotations

import errno


class UserError(Exception):
    """The user, not the program, has something to mend: exit status 1."""

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class UsageError(UserError):
    """The command was called wrongly: exit status 2."""


class InvalidValueError(UserError, ValueError):
    """A value, or a file's content, is other than what was wanted."""


class UnknownNameError(UserError, KeyError):
    """A name that is not registered; the message has the nearest ones (`names.unknown`)."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that was named is not there, or lacks what was wanted in it."""


class ExistingFileError(UserError, FileExistsError):
    """A file or folder would be overwritten."""


_SYSTEM = frozenset(
    getattr(errno, name)
    for name in [
        "EACCES",
        "EADDRINUSE",
        "EAGAIN",
        "EBUSY",
        "ECONNREFUSED",
        "ECONNRESET",
        "EDQUOT",
        "EEXIST",
        "EFBIG",
        "EHOSTUNREACH",
        "EIO",
        "EISDIR",
        "ELOOP",
        "EMFILE",
        "ENAMETOOLONG",
        "ENFILE",
        "ENODEV",
        "ENOENT",
        "ENOMEM",
        "ENOSPC",
        "ENOTDIR",
        "ENOTEMPTY",
        "ENXIO",
        "EPERM",
        "EROFS",
        "ESTALE",
        "ETIMEDOUT",
        "ETXTBSY",
        "EXDEV",
    ]
)


def is_from_the_system(error: OSError) -> bool:
    """Whether an OSError tells of the machine (a file, a disk, a network), not of a wrong call.

    A bad file descriptor or an invalid argument, say, is a defect of the program. Errors that
    name no number are raised by libraries about a file that they were given.
    """
    return error.errno is None or error.errno in _SYSTEM
