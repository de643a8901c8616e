"""Work that is done in a thread of its own beside a verb's, and stopped with it."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def beside(work: Callable[..., Any], *arguments: Any) -> Iterator[concurrent.futures.Future]:
    """Does some work while the block runs; an error in the block, or an interrupt, stops it.

    Args:
      work: takes `arguments`, and what says from time to time whether to stop.

    Yields:
      What the work will have returned.
    """
    stop = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        try:
            yield pool.submit(work, *arguments, stop.is_set)
        except BaseException:
            stop.set()
            raise
