"""What the steps of the pipeline share: errors, reports and progress.

A defect that shows in one document drops only that document (`DefectGuard`). Any other error ends
the step and names the input and the record being processed (`Step`, `read_documents`).
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from codegen_pax.data.format import manifest
from codegen_pax.data.format.documents import Document, Dropped
from codegen_pax.data.prepare import work_files
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.sources import reading, storage
from codegen_pax.data.sources.partitions import Partition
from codegen_pax.data.sources.schemas import INTERNAL_ERROR
from codegen_pax.errors import UserError

MAX_DEFECTS = 20  # descriptions of defects that are kept
MAX_SOURCES = 3  # inputs that are named in the progress of an element
# These concern the machine or the user, not one document.
_NOT_OF_A_DOCUMENT = (MemoryError, OSError, UserError)


class StepError(UserError):
    """A step of the pipeline failed; the message is one line for the user.

    Unlike some errors it can be pickled, so that any worker can return it.

    Attributes:
        is_defect: whether a defect of this program caused the failure; then the message names the
            input and the record that the step was processing.
    """

    def __init__(self, message: str, is_defect: bool = False):
        super().__init__(message)
        self.is_defect = is_defect


class DefectGuard:
    """Guards a block that handles one document: records an error instead of ending the step.

    Attributes:
        rule: `INTERNAL_ERROR` if the block failed, else None.
        defect: a description of the error; '' if there was none.
    """

    def __init__(self) -> None:
        self.rule: str | None = None
        self.defect = ""

    def __enter__(self) -> DefectGuard:
        return self

    def __exit__(self, kind, error, trace) -> bool:
        del kind, trace
        if not isinstance(error, Exception) or isinstance(error, _NOT_OF_A_DOCUMENT):
            return False
        self.rule, self.defect = INTERNAL_ERROR, one_line(error)
        return True


def one_line(error: BaseException) -> str:
    """Describe an error in one line."""
    message = storage.escape_path(" ".join(str(error).split()))
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def describe_defect(record: Document | Dropped, defect: str, place: str) -> str:
    """Describe, in one line, a defect that showed in a record.

    Args:
        record: The record.
        defect: What showed.
        place: `Partition.place_format`.
    """
    where = f", {place.format(record.record)}" if place else ""
    return f"{record.source}{where}: {defect}"


@dataclasses.dataclass(frozen=True)
class Step:
    """A function of one element of the pipeline that raises only `StepError`.

    Attributes:
        function: takes the element and further arguments; if it is a generator, the step returns a
            list.
        describe: returns a description of an element, for the error.
    """

    function: Callable
    describe: Callable[[Any], str]

    def run(self, element: Any, *arguments: Any) -> Any:
        """Call the function, and raise its errors as StepError."""
        work_files.limit_read_ahead()
        try:
            result = self.function(element, *arguments)
            return [*result] if isinstance(result, Iterator) else result
        except StepError:
            raise
        except (OSError, UserError) as error:
            raise StepError(str(error)) from error
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:  # a panic of a library in Rust is no Exception
            place = self.describe(element)
            raise StepError(f"cannot continue at {place}: {one_line(error)}", True) from error


def read_documents(
    partition: Partition, opener: storage.Opener = storage.open_file
) -> Iterator[Document | Dropped]:
    """Read the records of a partition, whose file `opener` opens if it is JSON.

    Raises:
        StepError: The reader raised an error that is not a UserError.
    """
    record = None
    try:
        for record in reading.documents(partition, opener):
            yield record
    except UserError:
        raise
    except Exception as error:
        source, place = storage.escape_path(partition.source), "at its beginning"
        if record:
            place = f"after {partition.describe_record(record.record)}"
            source = record.source if partition.files else source
        is_defect = not isinstance(error, OSError)  # a disk or a network, which the user can mend
        raise StepError(f"cannot read {source} ({place}): {one_line(error)}", is_defect) from error


@dataclasses.dataclass
class Report:
    """What a step counted in a partition, or in several (`merge_reports`).

    Attributes:
        counts: what came in, what was dropped and what was kept (`manifest.Counts`).
        sizes: (part, split) -> bytes of text that passed the first reading.
        records: (source, whether they are readable) -> number of records, for
            `reading.explain_unreadable`.
        unread_fields: name of a field of conversations that was not read -> number of records.
        redacted: kind of secret -> number of replacements.
        damaged: source -> description of its damage.
        defects: descriptions of rules that failed on a document, one line each.
    """

    counts: manifest.Counts = dataclasses.field(default_factory=dict)
    sizes: collections.Counter[tuple[str, str]] = dataclasses.field(
        default_factory=collections.Counter
    )
    records: collections.Counter[tuple[str, bool]] = dataclasses.field(
        default_factory=collections.Counter
    )
    unread_fields: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    redacted: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    damaged: dict[str, str] = dataclasses.field(default_factory=dict)
    defects: list[str] = dataclasses.field(default_factory=list)

    def add_defect(self, record: Document | Dropped, defect: str, place: str) -> None:
        """Note a defect that showed in a record, see `describe_defect`."""
        if len(self.defects) < MAX_DEFECTS:
            self.defects.append(describe_defect(record, defect, place))


def merge_reports(reports: Iterable[Report]) -> Report:
    """Add reports up; the result does not depend on their order."""
    reports = list(reports)

    def total(name: str) -> collections.Counter:
        counter: collections.Counter = collections.Counter()
        for report in reports:
            counter.update(getattr(report, name))
        return collections.Counter(dict(sorted(counter.items())))

    damaged: dict[str, str] = {}
    for report in reports:
        for source, damage in report.damaged.items():
            damaged[source] = min(damage, damaged.get(source, damage))
    return Report(
        counts=manifest.merge_counts(report.counts for report in reports),
        sizes=total("sizes"),
        records=total("records"),
        unread_fields=total("unread_fields"),
        redacted=total("redacted"),
        damaged=dict(sorted(damaged.items())),
        defects=sorted({line for report in reports for line in report.defects})[:MAX_DEFECTS],
    )


@dataclasses.dataclass(frozen=True)
class Reading:
    """How far a step has read an element.

    Attributes:
        done: bytes that were read.
        total: bytes of the element.
        sources: some of the inputs that the element comes from.
    """

    done: int
    total: int
    sources: tuple[str, ...]


class Progress:
    """Records every second, in a file, how many bytes of an element a step has read.

    If the output is a URL nothing is recorded, since nobody reads it.
    """

    def __init__(
        self, settings: Settings, step: str, number: int, total: int, sources: Iterable[str]
    ):
        self._path = settings.work_folder / "progress" / f"{step}-{number:06d}"
        self._is_recorded = not storage.is_url(settings.output)
        if self._is_recorded:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        self._total = total
        self._sources = [*itertools.islice(map(storage.escape_path, sources), MAX_SOURCES)]
        self._num_bytes = 0
        self._next_time = time.monotonic() + 1
        self._record(0)

    def add(self, num_bytes: int) -> None:
        """Count bytes of text that were read; compressed inputs hold more than their size."""
        self._num_bytes += num_bytes
        if time.monotonic() >= self._next_time:
            self._record(min(self._num_bytes, self._total))
            self._next_time = time.monotonic() + 1

    def finish(self) -> None:
        """Record that the element was read to its end."""
        self._record(self._total)

    def _record(self, num_bytes: int) -> None:
        if self._is_recorded:
            self._path.write_text(json.dumps([num_bytes, self._total, self._sources]))


def read_progress(settings: Settings) -> Mapping[tuple[str, int], Reading]:
    """Return (step, number of the element) -> how far it is read; {} if it is not recorded."""
    progress: dict[tuple[str, int], Reading] = {}
    if storage.is_url(settings.output):
        return progress
    with contextlib.suppress(OSError, ValueError):  # a file is being written or removed
        for path in (settings.work_folder / "progress").iterdir():
            step, _, number = path.name.partition("-")
            done, total, sources = json.loads(path.read_text())
            progress[step, int(number)] = Reading(done, total, tuple(sources))
    return progress
