"""A file system that counts what object storage would bill, for the URLs that begin with `URL`.

`start` returns the environment of a command whose processes, all of them, use it in the place of
TensorFlow's file system. Its files lie in a local folder. It reads as TensorFlow reads `gs://`: an
open file fetches as many bytes at once as `GCS_READ_CACHE_BLOCK_SIZE_MB` says, 64 MiB by default,
also if fewer are asked for. A file is uploaded by one request; to rename it is to copy it and to
delete the first; a folder is listed a thousand names at a time.
"""

import importlib.util
import io
import os
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

URL = "gs://counted"
_FOLDER = "COUNTED_FOLDER"  # the variable that names the folder of the files
_LOG = "requests.txt"  # in it; a line for each request: what, bytes, path
_BLOCK = "GCS_READ_CACHE_BLOCK_SIZE_MB"
_NAMES_AT_ONCE = 1_000


def start(folder: Path, *modules: str) -> dict[str, str]:
    """Return the environment of a command, with a file that each Python process runs first.

    Args:
        folder: Folder of the files.
        modules: Modules beside this one whose `install` each process calls too.
    """
    hook = folder / "hook"
    hook.mkdir(parents=True, exist_ok=True)
    place = Path(__file__).parent
    lines = ["import sys", f"sys.path.append({str(place)!r})"]
    for module in ("counting", *modules):
        lines += [f"import {module}", f"{module}.install()"]
    (hook / "sitecustomize.py").write_text("\n".join(lines) + "\n")
    paths = [str(hook), str(place.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths)), _FOLDER: str(folder)}


@dataclass
class Total:
    """The requests of one kind.

    Attributes:
        requests: how many.
        bytes: how many bytes they moved.
        largest: bytes of the largest.
    """

    requests: int = 0
    bytes: int = 0
    largest: int = 0


def totals(folder: Path) -> dict[tuple[str, str], Total]:
    """Return (folder of the run's work folder, or of the bucket; what) -> total."""
    counted: dict[tuple[str, str], Total] = defaultdict(Total)
    for line in (folder / _LOG).read_text().splitlines():
        what, size, path = line.split(" ", 2)
        names = path.removeprefix(URL).strip("/").split("/")
        if len(names) > 3 and names[1].startswith(".codegen-pax"):
            names = names[3:] if len(names) > 4 else ["work folder"]
        total = counted[names[0], what]
        total.requests += 1
        total.bytes += int(size)
        total.largest = max(total.largest, int(size))
    return dict(counted)


def forget(folder: Path) -> None:
    """Begin to count anew."""
    (folder / _LOG).unlink()


def install() -> None:
    """Patch TensorFlow as soon as it is imported."""
    if _FOLDER in os.environ:
        sys.meta_path.insert(0, _Finder())


class _Finder:
    def __init__(self):
        self._is_looking = False

    def find_spec(self, name, path=None, target=None):
        del path, target
        if name != "tensorflow" or self._is_looking:
            return None
        self._is_looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._is_looking = False
        load = spec.loader.exec_module

        def load_and_patch(module):
            load(module)
            _patch(module.io.gfile)

        spec.loader.exec_module = load_and_patch
        return spec


def _local(path) -> str:
    return str(path).replace(URL, os.environ[_FOLDER])


def _count(what: str, path, size: int = 0) -> None:
    line = f"{what} {size} {path}\n".encode()
    log = os.open(
        Path(os.environ[_FOLDER]) / _LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode=0o600
    )
    os.write(log, line)
    os.close(log)


def _patch(gfile) -> None:
    costs = {
        "exists": ["stat"],
        "isdir": ["stat"],
        "stat": ["stat"],
        "mkdir": ["stat", "write"],
        "makedirs": ["stat", "write"],
        "remove": ["delete"],
        "rename": ["copy", "delete"],
        "copy": ["copy"],
        "listdir": [],
        "glob": [],
        "walk": [],
        "rmtree": [],
    }
    for name, cost in costs.items():
        setattr(gfile, name, _counted(name, getattr(gfile, name), cost))
    real = gfile.GFile

    def opened(path, mode="r"):
        return _File(path, mode) if str(path).startswith(URL) else real(path, mode)

    gfile.GFile = opened


def _counted(name, function, cost):
    def call(path, *arguments, **options):
        if not str(path).startswith(URL):
            return function(path, *arguments, **options)
        for what in cost:
            _count(what, path)
        if name == "rmtree":
            for folder, _, names in os.walk(_local(path)):
                _count("list", path)
                for file in names:
                    _count("delete", f"{path}/{os.path.relpath(folder, _local(path))}/{file}")
        result = function(_local(path), *map(_local, arguments), **options)
        if name in ("listdir", "glob", "walk"):
            result = [*result]
            for _ in range(-(-max(1, len(result)) // _NAMES_AT_ONCE)):
                _count("list", path)
        return _remote(name, result)

    return call


def _remote(name, result):
    def url(path):
        return path.replace(os.environ[_FOLDER], URL)

    if name == "glob":
        return [url(one) for one in result]
    if name == "walk":
        return [(url(folder), folders, files) for folder, folders, files in result]
    return result


class _File:
    """A file that is read, or written, from its beginning or from where it was sought."""

    def __init__(self, path, mode: str):
        self._path, self._mode, self._place = path, mode, 0
        self._fetched = range(0)
        self._data = io.BytesIO()
        self._is_open = True
        if "w" in mode:
            Path(_local(path)).parent.mkdir(parents=True, exist_ok=True)
            self._file = open(_local(path), "wb")  # noqa: SIM115
        else:
            self._file = open(_local(path), "rb")  # noqa: SIM115
        self._size = os.fstat(self._file.fileno()).st_size

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def size(self) -> int:
        _count("stat", self._path)
        return self._size

    def read(self, size: int = -1):
        end = self._size if size < 0 else min(self._place + size, self._size)
        at_once = int(os.environ.get(_BLOCK, 64)) << 20
        place = self._place
        while place < end:
            if place not in self._fetched:
                self._fetched = range(place, min(place + at_once, self._size))
                _count("read", self._path, len(self._fetched))
            place = min(self._fetched.stop, end)
        self._file.seek(self._place)
        data = self._file.read(end - self._place)
        self._place = end
        return data if "b" in self._mode else data.decode()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> None:
        start = (0, self._place, self._size)[whence]
        self._place = start + offset

    def tell(self) -> int:
        return self._place

    def write(self, data) -> None:
        self._file.write(data if isinstance(data, bytes) else data.encode())

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        if self._is_open:
            self._is_open = False
            if "w" in self._mode:
                _count("write", self._path, self._file.tell())
            self._file.close()
