"""The size and the CRC-32C that each file of a checkpoint had when it was saved.

    checksums-00000-of-00004.json   in the checkpoint, one from each host of the run:
        format, later   1; whether another run than the one that saved the checkpoint wrote it
        files           name in the checkpoint -> [bytes, CRC-32C in hexadecimal]

A hash of a file's name assigns it to a host. A missing chunk of a zarr array reads as zeros, so
that the files alone do not show whether a chunk was lost. Checkpoints without checksums are
judged by the metadata of their arrays: Orbax stores every chunk, even one of zeros; an import
stores no chunk of an array that is zero, and is recognised by its arrays, which are uncompressed
(`checkpoint_arrays.NewCheckpoint`).
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import itertools
import json
import math
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import google_crc32c
from etils import epath

from codegen_pax import json_files
from codegen_pax.errors import InvalidValueError
from codegen_pax.runs.checkpoints import STATE, job_of

FORMAT = 1
_FILE = re.compile(r"checksums-(\d{5})-of-(\d{5})\.json")
_ZARRAY = ".zarray"
_THREADS = 32
_MAX_CHUNKS = 10_000_000  # of an array; no network has more, and more names would fill memory
_BLOCK_BYTES = 1 << 22  # read at once
# Files that come and go: locks of TensorStore and Orbax, and files that are being written.
_TRANSIENT = re.compile(r".*(\.__lock|\.unfinished)|LOCKED")


class DamagedCheckpointError(InvalidValueError):
    """The files of a checkpoint are not those that were saved."""


@dataclasses.dataclass(frozen=True)
class Checksums:
    """The recorded sizes and checksums of the files of a checkpoint.

    Attributes:
        files: The bytes and the CRC-32C of each file, by its name.
        missing: The (host, hosts) pairs whose checksums are missing.
        later: Whether some were not written by the run that saved the checkpoint.
    """

    files: Mapping[str, tuple[int, int]]
    missing: tuple[tuple[int, int], ...]
    later: bool


def file_path(checkpoint: epath.PathLike, host: int = 0, hosts: int = 1) -> epath.Path:
    """Returns the file of the checksums from a host, whether it exists or not."""
    return epath.Path(checkpoint) / f"checksums-{host:05d}-of-{hosts:05d}.json"


def host_of(name: str, hosts: int) -> int:
    """Returns the number of the host that a file is assigned to."""
    return zlib.crc32(name.encode()) % hosts


def write(
    checkpoint: epath.PathLike,
    host: int = 0,
    hosts: int = 1,
    *,
    later: bool = False,
    threads: int = _THREADS,
) -> int:
    """Reads a host's share of the files of a complete checkpoint, and writes their checksums.

    Args:
        checkpoint: The directory of the checkpoint.
        host: The number of the host.
        hosts: The number of hosts.
        later: Whether this run is not the one that saved the checkpoint.
        threads: How many threads read at once; with 1, none is started.

    Returns:
        The number of bytes read.
    """
    checkpoint = epath.Path(checkpoint)
    with _thread_map(threads) as mapped:
        names = [name for name in file_sizes(checkpoint, threads) if host_of(name, hosts) == host]
        results = mapped(lambda name: checksum(checkpoint / name), names)
        files = dict(zip(names, results, strict=True))
    content = {
        "format": FORMAT,
        "later": later,
        "files": {name: [size, f"{crc:08x}"] for name, (size, crc) in sorted(files.items())},
    }
    file = file_path(checkpoint, host, hosts)
    unfinished = file.with_name(f"{file.name}.unfinished")
    unfinished.write_text(json.dumps(content, indent=0) + "\n")
    unfinished.replace(file)
    return sum(size for size, _ in files.values())


def read(checkpoint: epath.PathLike) -> Checksums | None:
    """Returns the checksums of a checkpoint; None if it has none.

    Raises:
        DamagedCheckpointError: A file of checksums is not JSON, or has another format.
    """
    files: dict[str, tuple[int, int]] = {}
    present: dict[int, set[int]] = {}  # number of hosts -> those with checksums
    later = False
    for file in epath.Path(checkpoint).iterdir():
        if match := _FILE.fullmatch(file.name):
            host, hosts = map(int, match.groups())
            present.setdefault(hosts, set()).add(host)
            is_later, of_host = _parse(file)
            later |= is_later
            files |= of_host
    if not present:
        return None
    # A later run, on another number of hosts, may have written all checksums again.
    missing = [
        tuple((host, hosts) for host in range(hosts) if host not in those)
        for hosts, those in present.items()
    ]
    return Checksums(files, min(missing, key=lambda pairs: len(pairs)), later)


def find_problems(
    checkpoint: epath.PathLike,
    *,
    prefix: str | tuple[str, ...] = "",
    share: tuple[int, int] = (0, 1),
    contents: bool = False,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> list[str]:
    """Lists the files of a checkpoint that are not as they were saved.

    Args:
        checkpoint: The directory of the checkpoint.
        prefix: Only files whose names begin with it, or with one of a tuple, are checked.
        share: Of these, only those that are assigned to this (host, hosts) are checked.
        contents: Whether to compare contents, and not sizes alone.
        on_bytes: Called with the bytes of each checked file, from any thread.

    Returns:
        A line for each problem.

    Raises:
        DamagedCheckpointError: The checksums themselves are damaged.
        OSError: A file cannot be read.
    """
    checkpoint = epath.Path(checkpoint)
    known = read(checkpoint)
    files = dict(known.files) if known else {}

    def problem(name: str) -> str | None:
        saved = files.get(name)
        try:
            size = (checkpoint / name).stat().length
            if saved and size != saved[0]:
                return f"{name} has {size:,} bytes; {saved[0]:,} were saved"
            if saved and contents and checksum(checkpoint / name)[1] != saved[1]:
                return f"{name} has other bytes than were saved: its checksum differs"
        except FileNotFoundError:
            return f"{name} is missing"
        on_bytes(size)
        return None

    with _thread_map(_THREADS) as mapped:
        problems, chunks = _check_arrays(checkpoint, prefix, files, mapped)
        names = sorted({name for name in files if name.startswith(prefix)} | chunks)
        shared = [name for name in names if host_of(name, share[1]) == share[0]]
        # The metadata of an array may be reported as missing twice.
        return [*dict.fromkeys([*problems, *filter(None, mapped(problem, shared))])]


def check(checkpoint: epath.PathLike, prefix: str = "", *, contents: bool = False) -> None:
    """Raises DamagedCheckpointError unless files are as they were saved; see `find_problems`."""
    if lines := find_problems(checkpoint, prefix=prefix, contents=contents):
        raise damaged_error(checkpoint, lines)


def damaged_error(checkpoint: epath.PathLike, problems: list[str]) -> DamagedCheckpointError:
    """Returns the error that reports the problems of a checkpoint."""
    more = f" (and {len(problems) - 1:,} more)" if len(problems) > 1 else ""
    return DamagedCheckpointError(
        f"{checkpoint} is damaged: {problems[0]}{more}; `codegen-pax verify {job_of(checkpoint)}` "
        "finds the newest good step, and says how to go on from it"
    )


def file_sizes(checkpoint: epath.PathLike, threads: int = _THREADS) -> dict[str, int]:
    """Returns the bytes of each file of a checkpoint, without checksums and transient files.

    Args:
        checkpoint: The directory of the checkpoint.
        threads: How many threads list at once; with 1, none is started.

    Returns:
        Name in the checkpoint -> bytes.
    """
    checkpoint = epath.Path(checkpoint)
    sizes: dict[str, int] = {}
    folders = [("", checkpoint)]
    with _thread_map(threads) as mapped:
        while folders:
            listed = mapped(lambda folder: [path.name for path in folder[1].iterdir()], folders)
            entries = [
                (f"{prefix}{name}", folder / name)
                for (prefix, folder), names in zip(folders, listed, strict=True)
                for name in names
                if not _TRANSIENT.fullmatch(name) and not _FILE.fullmatch(name)
            ]
            folders = []
            for (name, path), stat in zip(
                entries, mapped(lambda entry: entry[1].stat(), entries), strict=True
            ):
                if stat.is_directory:
                    folders.append((f"{name}/", path))
                else:
                    sizes[name] = stat.length
    return sizes


def checksum(path: epath.Path) -> tuple[int, int]:
    """Returns the bytes of a file, and their CRC-32C."""
    size = crc = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            crc = google_crc32c.extend(crc, block)
            size += len(block)
    return size, crc


def _parse(file: epath.Path) -> tuple[bool, dict[str, tuple[int, int]]]:
    """Returns `later` and `files` of a file of checksums."""
    try:
        content = json_files.read(file)
        if content["format"] != FORMAT:
            raise DamagedCheckpointError(
                f"{file} has format {content['format']}; this version reads format {FORMAT}"
            )
        files = {name: (int(size), int(crc, 16)) for name, (size, crc) in content["files"].items()}
        return bool(content["later"]), files
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DamagedCheckpointError):
            raise
        raise DamagedCheckpointError(
            f"{file} is damaged ({error!r}), so that it is unknown what was saved; remove it to "
            "read the checkpoint unchecked"
        ) from error


def _check_arrays(
    checkpoint: epath.Path,
    prefix: str | tuple[str, ...],
    known: Mapping[str, object],
    mapped: Callable[..., Iterable],
) -> tuple[list[str], set[str]]:
    """Returns problems of the metadata of the arrays, and the names of the chunks they imply."""
    state = checkpoint / STATE
    if not state.is_dir():
        return [f"{STATE} is missing"], set()
    folders = [path for path in state.iterdir() if f"{STATE}/{path.name}".startswith(prefix)]

    def check_array(folder: epath.Path) -> tuple[list[str], list[str]]:
        name = f"{STATE}/{folder.name}"
        path = folder / _ZARRAY
        if not path.exists():  # a file of Orbax, or an array whose metadata is lost
            return ([f"{name}/{_ZARRAY} is missing"] if folder.is_dir() else []), []
        try:
            chunks, is_compressed = _parse_zarray(path)
        except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            return [f"{name}/{_ZARRAY} is damaged: {error!r}"], []
        names = [f"{name}/{chunk}" for chunk in chunks]
        may_be_zero = not is_compressed and not any(chunk in known for chunk in names)
        if may_be_zero and not {path.name for path in folder.iterdir()} & {*chunks}:
            return [], []
        return [], names

    results = [*mapped(check_array, folders)]
    problems = [line for lines, _ in results for line in lines]
    if not folders:
        problems.append(f"{STATE} holds no array")
    return problems, {name for _, names in results for name in names}


def _parse_zarray(path: epath.Path) -> tuple[list[str], bool]:
    """Returns the names of the chunks of an array, and whether they are compressed."""
    metadata = json_files.read(path)
    grid = [-(-n // c) for n, c in zip(metadata["shape"], metadata["chunks"], strict=True)]
    if math.prod(grid) > _MAX_CHUNKS:
        raise InvalidValueError(f"{math.prod(grid):,} chunks")
    separator = metadata.get("dimension_separator", ".")
    chunks = [
        separator.join(map(str, index)) or "0" for index in itertools.product(*map(range, grid))
    ]
    return chunks, metadata["compressor"] is not None


@contextlib.contextmanager
def _thread_map(threads: int) -> Iterator[Callable[..., Iterable]]:
    """Yields a `map` that runs in this many threads and keeps the order; with 1, it starts none."""
    if threads == 1:
        yield map
        return
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        yield pool.map
