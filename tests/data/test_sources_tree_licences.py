"""The licences of the files of a source tree."""

import importlib.metadata

import pytest

from codegen_pax.data.format import manifest
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.rules import licences
from codegen_pax.data.sources.tree_licences import TreeLicences
from tests.data.prepared_corpora import prepare_corpus

MIT = """MIT License

Copyright (c) 2026 Jane Doe

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and
associated documentation files (the "Software"), to deal in the Software without restriction,
including without limitation the rights to use, copy, modify, merge, publish, distribute,
sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial
portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT
NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES
OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN
CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""
(APACHE,) = (
    path.read_text() for path in importlib.metadata.files("absl-py") or () if path.name == "LICENSE"
)
TREE = {
    "LICENSE": MIT,
    "a.py": "x = 1\n",
    "tagged.py": "# SPDX-License-Identifier: GPL-2.0-or-later\nx = 1\n",
    "html.js": "<!-- SPDX-License-Identifier: ISC -->\n",
    "one_line.c": "/* SPDX-License-Identifier: (MIT OR Apache-2.0) */ int x;\n",
    "slash.rs": "// SPDX-License-Identifier: MIT/Apache-2.0\n",
    "two.sol": "// SPDX-License-Identifier: MIT\r\n\n// SPDX-License-Identifier: ISC\r\n",
    "unlicensed.sol": "// SPDX-License-Identifier: UNLICENSED\n",
    "a_program.py": 'find("SPDX-License-Identifier: GPL-3.0")\n',
    "a_pattern.py": '# SPDX-License-Identifier: ISC\nX = (\n "SPDX-License-Identifier: (.*)",\n)\n',
    "beside.c": "int x;\n",
    "beside.c.license": "SPDX-FileCopyrightText: Jane\nSPDX-License-Identifier: Zlib\n",
    "license.py": "x = 1\n",
    "rust/Cargo.toml": '[package]\nlicense = "MIT/Apache-2.0"\n',
    "rust/LICENSE-MIT": MIT,
    "rust/LICENSE-APACHE": APACHE,
    "rust/src/lib.rs": "fn f() {}\n",
    "both/LICENSE.txt": MIT,
    "both/LICENSE-APACHE.md": APACHE,
    "both/x.go": "package x\n",
    "npm/package.json": '{"license": "AGPL-3.0-only"}',
    "npm/index.js": "x;\n",
    "old/package.json": '{"licenses": [{"type": "MIT"}, {"type": "ISC"}]}',
    "old/index.js": "x;\n",
    "php/composer.json": '{"license": ["LGPL-2.1-only", "GPL-3.0-or-later"]}',
    "php/x.php": "<?php\n",
    "pep639/pyproject.toml": '[project]\nlicense = "BSD-3-Clause"\n',
    "pep639/x.py": "x = 1\n",
    "cfg/setup.cfg": "[metadata]\nlicense = Apache-2.0\n",
    "cfg/x.py": "x = 1\n",
    "net/x.nuspec": '<license type="expression">MIT</license>',
    "net/x.cs": "x;\n",
    "conflict/package.json": '{"license": "ISC"}',  # what `npm init` writes
    "conflict/COPYING": APACHE,
    "conflict/x.js": "x;\n",
    "private/package.json": '{"license": "SEE LICENSE IN LICENSE.md"}',
    "private/LICENSE.md": "All rights reserved. Ask Jane.\n",
    "private/x.js": "x;\n",
    "broken/package.json": "{",
    "broken/x.js": "x;\n",
    "own/x.py": "x = 1\n",
    "own/third_party_licenses": APACHE,
}
STATED = {
    "a.py": "MIT",
    "tagged.py": "GPL-2.0-or-later",
    "html.js": "ISC",
    "one_line.c": "Apache-2.0 OR MIT",
    "slash.rs": "Apache-2.0 OR MIT",
    "two.sol": "ISC AND MIT",
    "unlicensed.sol": "unknown",
    "a_program.py": "MIT",
    "a_pattern.py": "ISC",
    "beside.c": "Zlib",
    "rust/src/lib.rs": "Apache-2.0 OR MIT",
    "both/x.go": "Apache-2.0 AND MIT",
    "npm/index.js": "AGPL-3.0-only",
    "old/index.js": "ISC OR MIT",
    "php/x.php": "GPL-3.0-or-later OR LGPL-2.1-only",
    "pep639/x.py": "BSD-3-Clause",
    "cfg/x.py": "Apache-2.0",
    "net/x.cs": "MIT",
    "conflict/x.js": "Apache-2.0 AND ISC",
    "private/x.js": "unknown",
    "broken/x.js": "MIT",
    "own/x.py": "MIT",
}


def write(folder, contents):
    for name, text in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(text.encode())


def test_the_licence_of_a_file_is_what_it_or_the_nearest_folder_states(tmp_path):
    write(tmp_path, TREE)
    actual = TreeLicences(str(tmp_path))
    assert {
        path: licences.normalise(actual.find("", path, TREE[path])) for path in STATED
    } == STATED


def test_a_repository_ends_what_binds_it(tmp_path):
    write(tmp_path, {"LICENSE": MIT, "theirs/src/x.py": "", "x.py": ""})
    actual = TreeLicences(str(tmp_path))
    assert actual.find("theirs", "theirs/src/x.py", "") == ""
    assert actual.find("", "theirs/src/x.py", "") == actual.find("", "x.py", "") == "MIT"


def test_of_a_part_of_a_repository_the_rest_is_looked_at(tmp_path):
    write(tmp_path, {"r/LICENSE": MIT, "r/.git/HEAD": "", "r/src/a/x.py": "", "LICENSE": APACHE})
    assert TreeLicences(str(tmp_path / "r" / "src")).find("", "a/x.py", "") == "MIT"
    (tmp_path / "r" / ".git" / "HEAD").unlink()
    (tmp_path / "r" / ".git").rmdir()  # then nobody knows where it ends
    assert TreeLicences(str(tmp_path / "r" / "src")).find("", "a/x.py", "") == ""


@pytest.mark.parametrize(
    ("asked", "dropped"),
    [((), None), (("MIT", "ISC"), {"licence_not_allowed": 1, "licence_unknown": 1})],
)
def test_a_tree_counts_by_licence_and_filters_where_asked(tmp_path, asked, dropped):
    write(
        tmp_path / "t",
        {
            "m/LICENSE": MIT,
            "m/a.py": "a = 1\n" * 9,
            "g/b.py": "# SPDX-License-Identifier: AGPL-3.0-only\nb = 1\n",
            "n/c.py": "c = 1\n" * 9,
        },
    )
    chosen = Settings("tree", str(tmp_path / "out"), row_length=8, licences=asked)
    made = prepare_corpus(chosen, tmp_path / "t")
    assert made.settings["licences"] == list(asked or ["any"])
    assert made.settings["licences_from"] == "files"
    rules = manifest.totals_by_rule(made.counts["documents"])
    number = 3 - sum((dropped or {}).values())
    assert {name: rule[0] for name, rule in rules.items() if name in licences.RULES} == (
        dropped or {}
    )
    assert rules[manifest.KEPT][0] == number
    kept = {name for name, by in made.counts["documents"]["python"].items() if manifest.KEPT in by}
    assert kept == ({"MIT"} if asked else {"MIT", "AGPL-3.0-only", ""})
