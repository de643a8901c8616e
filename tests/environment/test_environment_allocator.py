"""glibc's allocator as a run sets it: freed arrays are kept, in every thread."""

import glob
import json
import os
import subprocess
import sys

from codegen_pax.environment import allocator

# Allocates and fills 256 MB in another thread, twice; prints the page faults of each time.
PROGRAM = """
import json, resource, threading
import numpy as np
faults = []
def fill():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(32_000_000)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
for _ in range(2):
    thread = threading.Thread(target=fill)
    thread.start()
    thread.join()
print(json.dumps(faults))
"""


def page_faults(environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **environment},
        capture_output=True,
        check=True,
        text=True,
    )
    assert not done.stderr
    return json.loads(done.stdout)


def test_freed_arrays_are_kept_for_the_next(monkeypatch):
    monkeypatch.setattr(glob, "glob", lambda pattern: [])
    first, second = page_faults(allocator.environment())
    assert first > 100
    assert second < first / 10


def test_a_host_of_accelerators_gives_memory_back(monkeypatch):
    monkeypatch.setattr(glob, "glob", lambda pattern: [pattern.replace("*", "0")])
    first, second = page_faults(allocator.environment())
    assert second > first / 2
