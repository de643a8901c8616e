r"""Files on this machine and behind URLs: listed, opened, hashed, and printed by name.

Beam reads a URL if it has a file system for it, which for most schemes (`hdfs://`, `s3://`)
requires an extra; TensorFlow, which supports `gs://` by itself, reads all others.

A file name is bytes and need not be UTF-8. Python decodes a byte that is not UTF-8 as a lone
surrogate, which JSON, Arrow and terminals reject. `escape_path` writes such a byte, and a control
character, as `\xNN`; a lone surrogate from a JSON record as `\uNNNN`; and a backslash in front of
text that looks like one of these as `\x5c`. Every name therefore has exactly one spelling, from
which `unescape_path` restores its bytes, and an ordinary name is its own spelling.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import hashlib
import io
import math
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any, BinaryIO, NoReturn, cast

from etils import epath

from codegen_pax import silent_imports
from codegen_pax.errors import MissingFileError

_BUFFER_BYTES = 1 << 20  # read at once

_ESCAPES = r"x(5c|[0189a-f][0-9a-f]|7f)|u(d[89a-f][0-9a-f]{2})"
_NEEDS_ESCAPE = re.compile(rf"[\0-\x1f\x7f\ud800-\udfff]|\\(?={_ESCAPES})")
_ESCAPED = re.compile(rf"\\(?:{_ESCAPES})")
_LAST_ASCII = 0x7F
_FIRST_BYTE, _LAST_BYTE = 0xDC80, 0xDCFF  # Python's "surrogateescape" (PEP 383)


class UnreachableError(OSError):
    """A URL cannot be reached, or no file system here supports it."""

    def __init__(self, url: str, reason: object):
        super().__init__(f"cannot reach {url}: {str(reason).partition(chr(10))[0]}")


@dataclasses.dataclass(frozen=True, order=True)
class File:
    """A file: its path or URL, and its size in bytes."""

    path: str
    size: int


def is_url(path: str) -> bool:
    """Return whether a path is a URL rather than a path on this machine."""
    return "://" in path


def escape_path(path: str) -> str:
    """Return a file name as text without lone surrogates and control characters."""
    return _NEEDS_ESCAPE.sub(_escape, path)


def unescape_path(text: str) -> str:
    """Return the file name that `escape_path` was given, as `open` takes it."""
    return _ESCAPED.sub(_unescape, text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code == ord("\\"):
        return r"\x5c"
    if _FIRST_BYTE <= code <= _LAST_BYTE:
        code -= 0xDC00
    elif code > _LAST_ASCII:
        return f"\\u{code:04x}"
    return f"\\x{code:02x}"


def _unescape(match: re.Match[str]) -> str:
    if match[2]:
        return chr(int(match[2], 16))
    code = int(match[1], 16)
    return chr(code if code <= _LAST_ASCII else 0xDC00 + code)


@contextlib.contextmanager
def translate_errors(path: str) -> Iterator[None]:
    """Raise the errors of TensorFlow's file systems as UnreachableError.

    Args:
        path: The path that the block reads or writes. If it is not a URL, errors are unchanged.
    """
    if not is_url(path):
        yield
        return
    errors = silent_imports.tensorflow().errors
    try:
        yield
    except errors.OpError as error:
        raise UnreachableError(path, error.message) from error


def as_epath(folder: str) -> epath.Path:
    """Return a folder, existing or not, as a path that can be written to or read from.

    Raises:
        UnreachableError: The URL is of an unknown kind.
    """
    try:
        return epath.Path(folder)
    except KeyError as error:
        raise UnreachableError(folder, f"nothing here writes {error.args[0]}") from None


def open_file(path: str) -> BinaryIO:
    """Open a file to read its bytes as they are: a compressed file is not decompressed."""
    if not is_url(path):
        return open(path, "rb")
    if filesystems := _beam_filesystems(path):
        from apache_beam.io.filesystem import CompressionTypes

        return filesystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)
    with translate_errors(path):
        return io.BufferedReader(_TensorFlowFile(path), _BUFFER_BYTES)


# Opens a file to read its bytes.
Opener = Callable[[str], BinaryIO]


class HashingOpener:
    """Opens a file with `open_file`, and hashes what is read of it, or of a range of its bytes."""

    def __init__(self, start: int = 0, end: int | None = None) -> None:
        """Hash the bytes from `start` to `end` - 1, or to the last."""
        self._start, self._end = start, end
        self._digest = hashlib.sha256()
        self._num_bytes = 0

    def __call__(self, path: str) -> BinaryIO:
        """Open the file."""
        return cast(BinaryIO, _HashingFile(open_file(path), self._update))

    def _update(self, position: int, data: bytes) -> None:
        skipped = self._start + self._num_bytes - position  # which is before the range
        if 0 <= skipped < len(data):
            stop = None if self._end is None else max(0, self._end - position)
            hashed = memoryview(data)[skipped:stop]
            self._digest.update(hashed)
            self._num_bytes += len(hashed)

    def sha256(self, file: File) -> str:
        """Return the SHA-256 of the range; if it was read in part, as it is damaged, it is reread.

        Args:
            file: The file; its size is that of the range.
        """
        if self._num_bytes == file.size:
            return self._digest.hexdigest()
        return sha256(file.path, start=self._start, end=self._end)


class _HashingFile(io.RawIOBase):
    """A file that gives each piece that is read of it, and its position, to a function."""

    def __init__(self, file: BinaryIO, on_read: Callable[[int, bytes], None]):
        self._file, self._on_read = file, on_read
        self._position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._on_read(self._position, data)
        self._position += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = self._file.seek(offset, whence)
        return self._position

    def close(self) -> None:
        self._file.close()
        super().close()


def open_regular_file(path: str, follow_links: bool = False) -> BinaryIO:
    """Open a file as `open_file` does, but refuse links, pipes and devices.

    Opening a pipe as a file would block until another process writes to it.

    Raises:
        OSError: The path is not a regular file.
    """
    if is_url(path):
        return open_file(path)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags if follow_links else flags | os.O_NOFOLLOW)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise OSError(errno.ENXIO, "not a regular file", path)


def glob_files(pattern: str) -> list[File]:
    """Return the file with this name, or the files that match it as a glob, in no order."""
    if not is_url(pattern):
        is_name = os.path.exists(pattern)
        return _regular_files([pattern] if is_name else glob.iglob(pattern, recursive=True))
    if filesystems := _beam_filesystems(pattern):
        return _beam_files(filesystems, pattern)
    with translate_errors(pattern):
        return _tensorflow_files(silent_imports.tensorflow().io.gfile.glob(pattern))


def stat_file(path: str) -> File:
    """Return one file.

    Raises:
        FileNotFoundError: There is no such file.
    """
    files = [file for file in glob_files(path) if file.path == path]
    if not files:
        raise MissingFileError(f"there is no file {path}")
    return files[0]


def walk_files(folder: str) -> list[File]:
    """Return the files below a folder, in no order; an empty list if it is not a folder.

    Links to folders are not followed.

    Raises:
        OSError: A subfolder cannot be read.
    """
    folder = folder.rstrip("/") or "/"
    if is_url(folder) and (filesystems := _beam_filesystems(folder)):
        return _beam_files(filesystems, f"{folder}/**")
    with translate_errors(folder):
        if is_url(folder):
            gfile = silent_imports.tensorflow().io.gfile
            walked = gfile.walk(folder, onerror=_raise) if gfile.isdir(folder) else ()
        else:
            walked = os.walk(folder, onerror=_raise) if os.path.isdir(folder) else ()
        paths = (f"{parent}/{name}" for parent, _, names in walked for name in names)
        return _tensorflow_files(paths) if is_url(folder) else _regular_files(paths)


def sha256(path: str, follow_links: bool = True, start: int = 0, end: int | None = None) -> str:
    """Return the SHA-256 of a file, or of a range of its bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular_file(path, follow_links) as file:
        if start:
            file.seek(start)
        left = math.inf if end is None else end - start
        while chunk := file.read(int(min(_BUFFER_BYTES, left))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()


def _raise(error: BaseException) -> NoReturn:
    raise error


def _regular_files(paths: Iterable[str]) -> list[File]:
    """Return the paths that are regular files, without dangling links and pipes."""
    files = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR}:
                raise
            continue
        if stat.S_ISREG(status.st_mode):
            files.append(File(path, status.st_size))
    return files


def _tensorflow_files(urls: Iterable[str]) -> list[File]:
    """Return the URLs that TensorFlow says are files."""
    gfile = silent_imports.tensorflow().io.gfile
    statuses = ((url, gfile.stat(url)) for url in urls)
    return [File(url, status.length) for url, status in statuses if not status.is_directory]


def _beam_filesystems(url: str) -> Any:
    """Return Beam's class `FileSystems` if one of its file systems handles this URL, else None."""
    with silent_imports.silenced():  # it warns about client libraries that are not needed here
        from apache_beam.io.filesystems import FileSystems
    try:
        FileSystems.get_filesystem(url)
    except ValueError:
        return None
    return FileSystems


def _beam_files(filesystems: Any, pattern: str) -> list[File]:
    matches = filesystems.match([pattern])[0].metadata_list
    return [File(match.path, match.size_in_bytes) for match in matches]


class _TensorFlowFile(io.RawIOBase):
    """A file opened by TensorFlow, with the interface of Python's own files."""

    def __init__(self, url: str):
        self._file = silent_imports.tensorflow().io.gfile.GFile(url, "rb")
        self._file.size()  # opens the file, so that an error shows now

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()
