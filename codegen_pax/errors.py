"""Errors that the user can correct, each with a message of one line. Standard library only.

The message of a `UserError` names the thing, what was found and what was expected. The command
prints that line alone; any other exception is a defect of the program and keeps its traceback.
Errors of the operating system (no such file, no space left: see `is_from_the_system`) are treated
as user errors too.

Each class also derives from the built-in exception that a Python caller expects.
"""

from __future__ import annotations

import errno


class UserError(Exception):
    """An error that the user can correct; the command's exit status is 1."""

    def __str__(self) -> str:
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class UsageError(UserError):
    """The command is called wrongly; its exit status is 2."""


class InvalidValueError(UserError, ValueError):
    """A value, or the content of a file, is invalid."""


class UnknownNameError(UserError, KeyError):
    """A name is not registered; the message has the nearest ones (`messages.unknown`)."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder does not exist, or lacks a required part."""


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
    """Whether an OSError is about the machine (a file, a disk, a network), not about the program.

    A bad file descriptor or an invalid argument, for example, is a defect of the program. Errors
    without a number are raised by libraries about a file.
    """
    return error.errno is None or error.errno in _SYSTEM
