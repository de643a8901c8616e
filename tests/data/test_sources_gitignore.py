"""Which files the patterns of `.gitignore` ignore, compared with git itself."""

import os
import random
import tempfile
import time

import pytest

from codegen_pax.data.sources import gitignore
from tests.data.git_repositories import files_of, files_of_git, run_git
from tests.data.random_trees import write_random_tree

TREES, REPOSITORIES = 2_000, 8


@pytest.fixture
def memory_folder():
    """A folder in memory where the system has one: disks take minutes for so many small files."""
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield folder


def test_two_thousand_random_trees_are_as_git_has_them(memory_folder):
    kept = total = 0
    for number in range(REPOSITORIES):
        rng = random.Random(number)
        top = os.fsencode(f"{memory_folder}/{number}")
        for place in range(TREES // REPOSITORIES):
            write_random_tree(rng, top + b"/t%d" % place)
        run_git(top, "init", "-q", *(["--object-format=sha256"] if number == 0 else []))
        with open(top + b"/.git/info/exclude", "wb") as file:
            file.write(b"/t1*/[[:upper:]]*\nc\n!t*/A\n")
        paths = [
            os.path.join(folder, name)[len(top) + 1 :]
            for folder, _, names in os.walk(top)
            for name in sorted(names)
            if b"/.git/" not in folder + b"/" and not name.startswith(b".")
        ]
        tracked = rng.sample(paths, len(paths) // 10)
        options = ("--pathspec-from-file=-", "--pathspec-file-nul")
        run_git(top, "config", "index.version", str(2 + 2 * (number % 2)))
        run_git(top, "add", "-f", *options, given=b"\0".join(tracked))
        for name in rng.sample(tracked, 20):
            os.unlink(top + b"/" + name)
        actual, expected = files_of(os.fsdecode(top)), files_of_git(top)
        assert actual == expected
        kept, total = kept + len(expected), total + len(paths)
    assert 0.4 * total < kept < 0.9 * total  # neither all nor none is ignored


@pytest.mark.parametrize(
    ("patterns", "ignored", "others"),
    [
        (b"!\n\\\n*.log\n", b"a.log", b"a.py|!|\\"),  # lines that are no patterns
        (b"\xef\xbb\xbfsecret.py\n", b"secret.py", b"a.py"),
        (b"*.py\t\n*.js  \n*.c\\ \n", b"a.py\t|a.js|a.c ", b"a.py|a.c"),
        (b"foo**/bar\n", b"foobar|foo/bar|foox/y/bar", b"xfoobar"),
        (b"[\n[!]\na[^b]c\n[[:digit:]]\n", b"axc|7", b"[|[!]|abc"),
        (b"*\n!*/\n!*.py\n", b"a.js|x/a.js", b"a.py|x/a.py"),
        (b"build\n!build/kept.py\n", b"build/kept.py", b"a.py"),  # nothing of a folder comes back
        (b"a\\/b\n/c\\\n\xff.py\n", b"a/b|\xff.py", b"c\\|x/a/b"),
    ],
)
def test_lines_that_are_easily_read_otherwise(tmp_path, patterns, ignored, others):
    # Each in a folder of its own: one would be a folder in another's way.
    for number, name in enumerate((ignored + b"|" + others).split(b"|")):
        top = os.fsencode(tmp_path) + b"/%d/" % number
        os.makedirs(os.path.dirname(top + name))
        open(top + name, "wb").close()
        with open(top + b".gitignore", "wb") as file:
            file.write(patterns)
    assert {name.partition(b"/")[2] for name in files_of(tmp_path)} == set(others.split(b"|"))
    run_git(tmp_path, "init", "-q")
    assert files_of(tmp_path) == files_of_git(tmp_path)


def test_no_pattern_takes_time_that_explodes():
    began = time.process_time()
    for pattern, path in (
        (b"*a" * 40 + b"b", b"a" * 255),
        (b"/" + b"**/a/" * 20 + b"b", b"a/" * 2_000 + b"c"),
        (b"x/" + b"*?" * 50 + b"b", b"x/" + b"a" * 255),
        (b"**\\/" * 20 + b"b", b"a/" * 2_000 + b"c"),
    ):
        assert gitignore.IgnorePatterns(pattern).match(path, False) is None
    assert time.process_time() - began < 5  # seconds; tried one by one they would take years
