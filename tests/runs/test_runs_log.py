"""The lines that a run reports go through Python's logging; an error of the user is one line."""

import errno
import logging
import sys

import jax
import pytest

from codegen_pax.errors import InvalidValueError
from codegen_pax.runs import log


def test_host_0_alone_logs_a_line_with_its_callers_place(caplog, monkeypatch):
    with caplog.at_level(logging.INFO, "codegen_pax"):
        log.info("step %d: loss %.2f", 3, 1.5)
        log.warning("none of %s", "x")
        monkeypatch.setattr(jax, "process_index", lambda: 1)
        log.info("unheard")
    lines = [(record.levelname, record.getMessage(), record.filename) for record in caplog.records]
    here = "test_runs_log.py"
    assert lines == [
        ("INFO", "codegen-pax: step 3: loss 1.50", here),
        ("WARNING", "codegen-pax: none of x", here),
    ]


@pytest.mark.parametrize(
    ("error", "printed"),
    [
        (InvalidValueError("mesh 1x3x1:\n  expected 8"), "codegen-pax: mesh 1x3x1: expected 8\n"),
        (InvalidValueError("a run of \x1b[2J"), "codegen-pax: a run of \ufffd[2J\n"),
        (
            OSError(errno.ENOSPC, "No space left on device", "job/x"),
            "codegen-pax: [Errno 28] No space left on device: 'job/x'\n",
        ),
        (OSError(errno.EBADF, "Bad file descriptor"), "OSError: [Errno 9] Bad file descriptor\n"),
        (ValueError("boom"), "ValueError: boom\n"),
    ],
)
def test_what_ends_a_run_is_printed(error, printed, capsys, monkeypatch):
    """Python prints a defect's traceback itself."""
    monkeypatch.setattr(
        sys,
        "__excepthook__",
        lambda kind, error, trace: sys.stderr.write(f"{kind.__name__}: {error}\n"),
    )
    log.excepthook(type(error), error, None)
    assert capsys.readouterr().err == printed
