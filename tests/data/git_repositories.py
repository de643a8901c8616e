"""Git itself, and which files it and this project find in a repository."""

import os
import subprocess

from codegen_pax.data.sources import tree


def run_git(top, *arguments, given=None):
    """What git prints, with no configuration but the repository's own."""
    done = subprocess.run(
        ["git", "-C", top, "-c", "user.name=a", "-c", "user.email=a@b", *arguments],
        env={
            "PATH": os.environ["PATH"],
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_LITERAL_PATHSPECS": "1",
        },
        input=given,
        capture_output=True,
        check=True,
    )
    return done.stdout


def files_of_git(top):
    """What git has and is there, in bytes; no `.gitignore`, since a tree has no hidden file."""
    listed = run_git(top, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = {name for name in listed.split(b"\0") if name and not name.endswith(b".gitignore")}
    return {name for name in names if os.path.isfile(os.fsencode(top) + b"/" + name)}


def files_of(root):
    return {os.fsencode(file.path) for file in tree.list_files(str(root)).files}
