"""How glibc's allocator holds the arrays of a computation on a CPU."""

from __future__ import annotations

import glob

# Pages of 2 MiB instead of 4 KiB for large arrays: to add 1 to 52 million floats took 114 ms, and
# takes 25.
_HUGE_PAGES = "glibc.malloc.hugetlb=1"
# A program's temporaries, some gigabytes, are kept for the next step. Otherwise each step maps them
# anew, and the kernel fills them with zeros: a quarter of a step of 6 seconds, and half of it where
# other programs hold most of the memory. One arena, as the others always map large arrays.
_KEPT = (
    "glibc.malloc.arena_max=1",
    "glibc.malloc.mmap_max=0",
    "glibc.malloc.trim_threshold=1099511627776",
)
_ACCELERATORS = ("/dev/accel*", "/dev/vfio/*", "/dev/nvidia[0-9]*")


def environment() -> dict[str, str]:
    """Returns the variable of a process that computes, by which glibc's allocator is set.

    A process that drives accelerators holds few arrays itself, and many threads that allocate: it
    only has the large pages.
    """
    drives = any(glob.glob(pattern) for pattern in _ACCELERATORS)
    return {"GLIBC_TUNABLES": ":".join([_HUGE_PAGES, *(() if drives else _KEPT)])}
