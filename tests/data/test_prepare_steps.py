"""What steps share: errors name the input and the record, and any worker can send them."""

import os
import pickle

import pytest

from codegen_pax.data.format.documents import Document
from codegen_pax.data.prepare import order, output, steps
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.prepare.steps import Step, StepError
from codegen_pax.data.sources import errors, partitions, reading


@pytest.fixture
def partition():
    return partitions.Partition("pile", os.fsdecode(b"caf\xe9.jsonl"), 3, 9)


@pytest.mark.parametrize(
    ("count", "place"), [(0, "at its beginning"), (3, "after the line at byte 2")]
)
def test_what_a_reader_raises_names_the_input_and_the_record(partition, count, place, monkeypatch):
    def documents(*_):
        for number in range(count):
            yield Document("x", "as it is shown", number)
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(reading, "documents", documents)
    with pytest.raises(StepError) as error:
        list(steps.read_documents(partition))
    message = rf"cannot read caf\xe9.jsonl ({place}): ZeroDivisionError: division by zero"
    assert str(error.value) == message and error.value.is_defect


def raising(error):
    def function(*_):
        raise error

    return function


@pytest.mark.parametrize(
    ("error", "message", "is_defect"),
    [
        (KeyError("a"), "cannot continue at bucket 2 of go, train: KeyError: 'a'", True),
        (MemoryError(), "cannot continue at bucket 2 of go, train: MemoryError", True),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device", False),
        (errors.DamagedInputError("x", "cut"), "x is damaged (cut): fetch it again", False),
    ],
)
def test_what_a_step_raises_names_its_element_and_can_be_sent(error, message, is_defect):
    step = Step(raising(error), order.describe_bucket)
    with pytest.raises(StepError) as raised:
        step.run((("go", "train", 2), []), None)
    received = pickle.loads(pickle.dumps(raised.value))
    assert str(received).startswith(message) and received.is_defect == is_defect


def test_a_guard_lets_what_is_not_the_documents_through():
    for error in (MemoryError(), OSError(5, "I/O"), output.OutputError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)), steps.DefectGuard():
            raise error
    with steps.DefectGuard() as guard:
        raise RecursionError
    assert (guard.rule, guard.defect) == ("internal_error", "RecursionError")


def test_progress_is_read_as_it_was_recorded(partition, tmp_path):
    settings = Settings("pile", str(tmp_path / "out"))
    assert steps.read_progress(settings) == {}
    sources = [partition.source, *"abc"]
    progress = steps.Progress(settings, "examine", 3, 9, sources)
    named = (r"caf\xe9.jsonl", "a", "b")
    assert steps.read_progress(settings) == {("examine", 3): steps.Reading(0, 9, named)}
    progress.finish()
    assert steps.read_progress(settings) == {("examine", 3): steps.Reading(9, 9, named)}


def test_reports_add_up_in_any_order():
    reports = [
        steps.Report(damaged={"b": "later"}, defects=[f"x{n}" for n in range(15)]),
        steps.Report(damaged={"b": "first", "a": "cut"}, defects=[f"y{n}" for n in range(15)]),
    ]
    reports[0].records["a", True] = 2
    reports[1].records["a", True] = 3
    merged = steps.merge_reports(reports)
    assert merged == steps.merge_reports(reports[::-1])
    assert merged.damaged == {"a": "cut", "b": "first"} and merged.records == {("a", True): 5}
    assert len(merged.defects) == steps.MAX_DEFECTS
    assert steps.merge_reports([merged, steps.Report()]) == merged
