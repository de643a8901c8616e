"""Files of this machine and behind URLs: found, listed and opened.

A URL is Beam's if Beam has a file system for it, which for most takes an extra (`hdfs://`, `s3://`);
else TensorFlow's, which reads `gs://` by itself.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import glob
import hashlib
import io
import os
import stat
from collections.abc import Iterable, Iterator
from typing import BinaryIO, NoReturn

from etils import epath

from codegen_pax import silent_imports
from codegen_pax.errors import MissingFileError

_BUFFER = 1 << 20  # bytes that are asked for at once


class UnreachableError(OSError):
    """What is behind a URL cannot be reached, or no file system here knows the URL."""

    def __init__(self, url: str, found: object):
        super().__init__(f"cannot reach {url}: {str(found).partition(chr(10))[0]}")


@dataclasses.dataclass(frozen=True, order=True)
class File:
    """A file: its path or URL, and its size in bytes."""

    path: str
    size: int


def is_url(path: str) -> bool:
    """Whether a path is a URL and not of this machine."""
    return "://" in path


@contextlib.contextmanager
def told(path: str) -> Iterator[None]:
    """Raises what TensorFlow's file systems raise as UnreachableError; any path may be given."""
    if not is_url(path):
        yield
        return
    errors = silent_imports.tensorflow().errors
    try:
        yield
    except errors.OpError as error:
        raise UnreachableError(path, error.message) from error


def folder(path: str) -> epath.Path:
    """A folder to write to or to read a corpus from, there or not.

    Raises UnreachableError for a URL of a kind that is not known.
    """
    try:
        return epath.Path(path)
    except KeyError as error:
        raise UnreachableError(path, f"nothing here writes {error.args[0]}") from None


def open_file(path: str) -> BinaryIO:
    """A file's own bytes, compressed ones as they are."""
    if not is_url(path):
        return open(path, "rb")
    if beam := _beam(path):
        filesystems, as_it_is = beam
        return filesystems.open(path, compression_type=as_it_is)
    with told(path):
        return io.BufferedReader(_TensorFlowFile(path), _BUFFER)


def open_regular(path: str, follow_links: bool = False) -> BinaryIO:
    """A file's own bytes, as `open_file`; OSError for a link, and for a pipe or a device.

    Who opens a pipe as any file waits for its writer.
    """
    if is_url(path):
        return open_file(path)
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
    opened = os.open(path, flags if follow_links else flags | os.O_NOFOLLOW)
    if stat.S_ISREG(os.fstat(opened).st_mode):
        return os.fdopen(opened, "rb")
    os.close(opened)
    raise OSError(errno.ENXIO, "no regular file", path)


def matching(pattern: str) -> list[File]:
    """The file of this name, or those that a glob finds, in no order."""
    if not is_url(pattern):
        there = os.path.exists(pattern)
        return _regular([pattern] if there else glob.iglob(pattern, recursive=True))
    if beam := _beam(pattern):
        return _matched(beam, pattern)
    with told(pattern):
        return _sized(silent_imports.tensorflow().io.gfile.glob(pattern))


def stat_file(path: str) -> File:
    """One file; FileNotFoundError if it is not there."""
    found = [file for file in matching(path) if file.path == path]
    if not found:
        raise MissingFileError(f"there is no file {path}")
    return found[0]


def below(path: str) -> list[File]:
    """The files of a folder and of every folder in it, in no order; none if it is no folder.

    Links to folders are no way. Raises OSError for a folder in it that cannot be read.
    """
    path = path.rstrip("/") or "/"
    if is_url(path) and (beam := _beam(path)):
        return _matched(beam, f"{path}/**")
    with told(path):
        if is_url(path):
            gfile = silent_imports.tensorflow().io.gfile
            walked = gfile.walk(path, onerror=_fail) if gfile.isdir(path) else ()
        else:
            walked = os.walk(path, onerror=_fail) if os.path.isdir(path) else ()
        found = (f"{place}/{name}" for place, _, names in walked for name in names)
        return _sized(found) if is_url(path) else _regular(found)


def sha256(path: str, follow_links: bool = True) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open_regular(path, follow_links) as file:
        while chunk := file.read(_BUFFER):
            digest.update(chunk)
    return digest.hexdigest()


def _fail(error: BaseException) -> NoReturn:
    raise error


def _regular(paths: Iterable[str]) -> list[File]:
    """Those that are files: no links that lead nowhere, no pipes, which would be waited for."""
    files = []
    for path in paths:
        try:
            found = os.stat(path)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR}:
                raise
            continue
        if stat.S_ISREG(found.st_mode):
            files.append(File(path, found.st_size))
    return files


def _sized(urls: Iterable[str]) -> list[File]:
    """Those that are files, by TensorFlow."""
    gfile = silent_imports.tensorflow().io.gfile
    said = ((url, gfile.stat(url)) for url in urls)
    return [File(url, found.length) for url, found in said if not found.is_directory]


def _beam(url: str):
    """(Beam's file systems, 'uncompressed'), if one of them is for this URL."""
    with silent_imports.silenced():  # it warns of clients of Google's that nothing here needs
        from apache_beam.io.filesystem import CompressionTypes
        from apache_beam.io.filesystems import FileSystems
    try:
        FileSystems.get_filesystem(url)
    except ValueError:
        return None
    return FileSystems, CompressionTypes.UNCOMPRESSED


def _matched(beam, pattern: str) -> list[File]:
    found = beam[0].match([pattern])[0].metadata_list
    return [File(file.path, file.size_in_bytes) for file in found]


class _TensorFlowFile(io.RawIOBase):
    """A file that TensorFlow opens, as Python's readers want it."""

    def __init__(self, url: str):
        self._file = silent_imports.tensorflow().io.gfile.GFile(url, "rb")
        self._file.size()  # it opens when it is first asked: now is when errors are told

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
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
