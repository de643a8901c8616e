"""An interrupt while libraries are imported is neither lost nor theirs."""

import concurrent.futures
import contextlib
import signal

import pytest

from codegen_pax.quiet import quietly


@pytest.fixture(autouse=True)
def as_at_a_terminal():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_comes_when_the_block_has_ended():
    reached = []
    with pytest.raises(KeyboardInterrupt), quietly():
        with contextlib.suppress(BaseException):  # as some imports do
            signal.raise_signal(signal.SIGINT)
        reached.append(True)
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_one_comes_at_once():
    reached = []
    with pytest.raises(KeyboardInterrupt), quietly():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        reached.append(True)
    assert not reached


def test_another_thread_has_no_interrupts_to_hold():
    with concurrent.futures.ThreadPoolExecutor(1) as pool:

        def block():
            with quietly():
                return signal.getsignal(signal.SIGINT)

        assert pool.submit(block).result() is signal.default_int_handler


def test_whoever_handles_it_otherwise_still_does():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with quietly():
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
