"""What every verb prints with, and what runs in the background while a verb works."""

import io
import threading

import pytest
from rich.table import Table

from codegen_pax.cli.core.terminal import Terminal, in_background, waiting


def test_a_terminal_prints_what_it_is_given():
    path = "runs/[old]/a[1:x:2] [/b]"
    table = Table(title=path)
    table.add_column(path)
    table.add_row(path)
    console = Terminal(file=io.StringIO(), width=80)
    console.print(path, table, sep="\n")
    assert console.file.getvalue().count(path) == 4


def test_a_wait_is_no_noise_where_there_is_no_terminal(capfd):
    with waiting("importing Pax"):
        print("result")
    assert capfd.readouterr() == ("result\n", "")


def test_the_result_of_the_background_is_had():
    with in_background(lambda one, other, is_stopped: (one + other, is_stopped()), 2, 3) as future:
        assert future.result() == (5, False)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_stops_the_background(error):
    stopped = threading.Event()

    def work(is_stopped):
        while not is_stopped():
            pass
        stopped.set()

    with pytest.raises(error), in_background(work):
        raise error
    assert stopped.is_set()
