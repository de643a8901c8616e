"""Where there is no terminal, lines about bytes come once in a while, and once at the end."""

import io

from rich.console import Console

from codegen_pax.runs import progress


def printed(monkeypatch, *moved):
    """What is printed of 1 GB, of which (seconds, bytes) each are moved."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    console = Console(file=io.StringIO())
    with progress.follow_bytes("importing", 10**9, console) as on_bytes:
        on_bytes(0)
        for seconds, count in moved:
            now += seconds
            on_bytes(count)
    return console.file.getvalue().splitlines()


def test_a_short_conversion_has_one_line(monkeypatch):
    assert printed(monkeypatch, *[(0.01, 10**8)] * 10) == ["importing: 1.0 GB of 1.0 GB, 0 s left"]


def test_a_long_one_has_a_line_for_every_tenth(monkeypatch):
    lines = printed(monkeypatch, *[(2.0, 5 * 10**7)] * 20)
    assert len(lines) == 10
    assert lines[0] == "importing: 100.0 MB of 1.0 GB, 36 s left"
    assert lines[-1] == "importing: 1.0 GB of 1.0 GB, 0 s left"
