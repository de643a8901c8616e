"""What the files of a checkpoint were when it was saved: the size and the CRC-32C of each.

    checksums-00000-of-00004.json   in the checkpoint's folder, one from each host of the run:
        format, later   1; whether it was not written by the run that saved the checkpoint
        files           name in the checkpoint -> [bytes, CRC-32C in hexadecimal]

Each host takes the files whose names fall to it by a hash. A chunk of a zarr array that is not
there reads as zeros, so what was there has to be known from elsewhere. Checkpoints that have no
checksums are judged by their arrays' own metadata: Orbax stores every chunk, those of zeros too; an
import stores none of an array that is zero (`checkpoint.NewCheckpoint`) and packs nothing, by
which its arrays are known.
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

FORMAT = 1
STATE = "state"  # the folder of the arrays, one folder each
_FILE = re.compile(r"checksums-(\d{5})-of-(\d{5})\.json")
_ZARRAY = ".zarray"
_THREADS = 32
_MOST_CHUNKS = 10_000_000  # of an array: more are not of a network, and would not fit in memory
_PIECE = 1 << 22  # bytes that are read at once
# What comes and goes: locks of tensorstore and Orbax, files that are being written.
_PASSING = re.compile(r".*(\.__lock|\.unfinished)|LOCKED")


class DamagedCheckpointError(InvalidValueError):
    """A checkpoint's files are not those that were saved."""


@dataclasses.dataclass(frozen=True)
class Checksums:
    """What is known of a checkpoint's files.

    Attributes:
      files: name -> its bytes and its CRC-32C.
      missing: the (part, parts) that no host has written.
      later: whether some were not written by the run that saved the checkpoint.
    """

    files: Mapping[str, tuple[int, int]]
    missing: tuple[tuple[int, int], ...]
    later: bool


def part_of(name: str, parts: int) -> int:
    """Which of so many hosts takes a file."""
    return zlib.crc32(name.encode()) % parts


def write(
    checkpoint: epath.PathLike,
    part: int = 0,
    parts: int = 1,
    *,
    later: bool = False,
    threads: int = _THREADS,
) -> int:
    """Reads a host's part of a whole checkpoint, and writes down its sizes and checksums.

    Args:
      checkpoint: its folder.
      part, parts: of how many hosts this is which.
      later: whether this is not the run that saved it.
      threads: that read at once; with 1 none is started.

    Returns:
      The bytes that were read.
    """
    checkpoint = epath.Path(checkpoint)
    with _mapping(threads) as mapped:
        names = [name for name in files_of(checkpoint, threads) if part_of(name, parts) == part]
        read_again = mapped(lambda name: checksum(checkpoint / name), names)
        found = dict(zip(names, read_again, strict=True))
    said = {
        "format": FORMAT,
        "later": later,
        "files": {name: [size, f"{crc:08x}"] for name, (size, crc) in sorted(found.items())},
    }
    unfinished = checkpoint / f"checksums-{part:05d}-of-{parts:05d}.json.unfinished"
    unfinished.write_text(json.dumps(said, indent=0) + "\n")
    unfinished.replace(checkpoint / unfinished.name.removesuffix(".unfinished"))
    return sum(size for size, _ in found.values())


def read(checkpoint: epath.PathLike) -> Checksums | None:
    """The checksums of a checkpoint; None if it has none.

    Raises:
      DamagedCheckpointError: a file of them is no JSON, or of another format.
    """
    files: dict[str, tuple[int, int]] = {}
    there: dict[int, set[int]] = {}  # parts -> those of them that are there
    later = False
    for path in epath.Path(checkpoint).iterdir():
        if named := _FILE.fullmatch(path.name):
            part, parts = map(int, named.groups())
            there.setdefault(parts, set()).add(part)
            said_later, found = _parsed(path)
            later |= said_later
            files |= found
    if not there:
        return None
    # A run on another number of hosts may have left the rest to do.
    missing = [
        [(part, parts) for part in range(parts) if part not in own] for parts, own in there.items()
    ]
    return Checksums(files, tuple(min(missing, key=len)), later)


def problems(
    checkpoint: epath.PathLike,
    *,
    prefix: str | tuple[str, ...] = "",
    share: tuple[int, int] = (0, 1),
    contents: bool = False,
    on_bytes: Callable[[int], None] = lambda count: None,
) -> list[str]:
    """What of a checkpoint is not as it was saved, a line each; nothing if all is well.

    Args:
      checkpoint: its folder.
      prefix: which files are looked at: those whose names begin with it, or with one of it.
      share: of them the (part, parts) that this host looks at.
      contents: whether to read the files, and not their sizes alone.
      on_bytes: called with the bytes of each file that was looked at, from any thread.

    Raises:
      DamagedCheckpointError: the checksums themselves are damaged.
      OSError: something cannot be read.
    """
    checkpoint = epath.Path(checkpoint)
    known = read(checkpoint)
    files = dict(known.files) if known else {}

    def look(name: str) -> str | None:
        said = files.get(name)
        try:
            size = (checkpoint / name).stat().length
            if said and size != said[0]:
                return f"{name} has {size:,} bytes; {said[0]:,} were saved"
            if said and contents and checksum(checkpoint / name)[1] != said[1]:
                return f"{name} has other bytes than were saved: its checksum does not fit"
        except FileNotFoundError:
            return f"{name} is missing"
        on_bytes(size)
        return None

    with _mapping(_THREADS) as mapped:
        wrong, wanted = _chunks(checkpoint, prefix, files, mapped)
        names = sorted({name for name in files if name.startswith(prefix)} | wanted)
        mine = [name for name in names if part_of(name, share[1]) == share[0]]
        # The metadata of an array may be missed twice.
        return [*dict.fromkeys([*wrong, *filter(None, mapped(look, mine))])]


def check(checkpoint: epath.PathLike, prefix: str = "", *, contents: bool = False) -> None:
    """Raises DamagedCheckpointError unless files are as they were saved: see `problems`."""
    if found := problems(checkpoint, prefix=prefix, contents=contents):
        raise damaged(checkpoint, found)


def damaged(checkpoint: epath.PathLike, found: list[str]) -> DamagedCheckpointError:
    """The error that tells a checkpoint's problems."""
    also = f" (and {len(found) - 1:,} more)" if len(found) > 1 else ""
    job = epath.Path(checkpoint).parent.parent
    return DamagedCheckpointError(
        f"{checkpoint} is damaged: {found[0]}{also}; `codegen-pax verify {job}` finds the newest"
        " good step, and says how to go on from it"
    )


def files_of(checkpoint: epath.PathLike, threads: int = _THREADS) -> dict[str, int]:
    """Name in the checkpoint -> bytes of each file, but of what comes and goes and of checksums."""
    checkpoint = epath.Path(checkpoint)
    found: dict[str, int] = {}
    folders = [("", checkpoint)]
    with _mapping(threads) as mapped:
        while folders:
            listed = mapped(lambda folder: [path.name for path in folder[1].iterdir()], folders)
            entries = [
                (f"{prefix}{name}", folder / name)
                for (prefix, folder), names in zip(folders, listed, strict=True)
                for name in names
                if not _PASSING.fullmatch(name) and not _FILE.fullmatch(name)
            ]
            folders = []
            for (name, path), stat in zip(
                entries, mapped(lambda entry: entry[1].stat(), entries), strict=True
            ):
                if stat.is_directory:
                    folders.append((f"{name}/", path))
                else:
                    found[name] = stat.length
    return found


def checksum(path: epath.Path) -> tuple[int, int]:
    """The bytes of a file, and their CRC-32C."""
    size = crc = 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            crc = google_crc32c.extend(crc, piece)
            size += len(piece)
    return size, crc


def _parsed(path: epath.Path) -> tuple[bool, dict[str, tuple[int, int]]]:
    try:
        said = json_files.read(path)
        if said["format"] != FORMAT:
            raise DamagedCheckpointError(
                f"{path} has format {said['format']}; wanted {FORMAT}, which this version reads"
            )
        files = {name: (int(size), int(crc, 16)) for name, (size, crc) in said["files"].items()}
        return bool(said["later"]), files
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, DamagedCheckpointError):
            raise
        raise DamagedCheckpointError(
            f"{path} is damaged ({error!r}): what was saved is not known; remove it to read the"
            " checkpoint unchecked"
        ) from error


def _chunks(
    checkpoint: epath.Path,
    prefix: str | tuple[str, ...],
    known: Mapping[str, object],
    mapped: Callable[..., Iterable],
) -> tuple[list[str], set[str]]:
    """What is wrong with the arrays' metadata, and the names of the chunks they should have."""
    state = checkpoint / STATE
    if not state.is_dir():
        return [f"{STATE} is missing"], set()
    folders = [path for path in state.iterdir() if f"{STATE}/{path.name}".startswith(prefix)]

    def of(folder: epath.Path) -> tuple[list[str], list[str]]:
        name = f"{STATE}/{folder.name}"
        path = folder / _ZARRAY
        if not path.exists():  # a file of Orbax's own, or an array without it
            return ([f"{name}/{_ZARRAY} is missing"] if folder.is_dir() else []), []
        try:
            said = json_files.read(path)
            grid = [-(-n // c) for n, c in zip(said["shape"], said["chunks"], strict=True)]
            if math.prod(grid) > _MOST_CHUNKS:
                raise InvalidValueError(f"{math.prod(grid):,} chunks")
            separator = said.get("dimension_separator", ".")
            chunks = [
                separator.join(map(str, at)) or "0" for at in itertools.product(*map(range, grid))
            ]
            packed = said["compressor"] is not None
        except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
            return [f"{name}/{_ZARRAY} is damaged: {error!r}"], []
        names = [f"{name}/{chunk}" for chunk in chunks]
        is_zero = not packed and not any(one in known for one in names)
        if is_zero and not {path.name for path in folder.iterdir()} & {*chunks}:
            return [], []
        return [], names

    found = [*mapped(of, folders)]
    wrong = [line for lines, _ in found for line in lines]
    if not folders:
        wrong.append(f"{STATE} holds no array")
    return wrong, {name for _, names in found for name in names}


@contextlib.contextmanager
def _mapping(threads: int) -> Iterator[Callable[..., Iterable]]:
    """Maps a function over items, in their order, in so many threads; in this one if 1."""
    if threads == 1:
        yield map
        return
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        yield pool.map
