"""The text that this machine has: what is in each corpus, how it is split, instruction pairs."""

import ast
import hashlib
import sysconfig

import pytest

from codegen_pax.data import installed
from codegen_pax.data.rules import filters

SPLIT_LIMIT = 24  # 24 of 256: 9.4% of the files are held out


@pytest.fixture(scope="module")
def corpora():
    return {
        "prose": installed.prose(),
        "standard library": installed.standard_library(),
        "python": installed.code("python"),
        "c": installed.code("c"),
        "cpp": installed.code("cpp"),
    }


def digest(file):
    return hashlib.sha256(file.path.read_bytes()).digest()


def test_every_corpus_has_text_in_both_splits(corpora):
    for name, files in corpora.items():
        assert {file.split for file in files} == {"train", "validation"}, name
        held_out = sum(file.split == "validation" for file in files) / len(files)
        assert 0.03 < held_out < 0.2, name


def test_split_is_a_function_of_the_content(corpora):
    for files in corpora.values():
        for file in files:
            assert (file.split == "validation") == (digest(file)[0] < SPLIT_LIMIT)


def test_no_text_is_in_both_splits_of_any_two_corpora(corpora):
    everything = [file for files in corpora.values() for file in files]
    train = {digest(file) for file in everything if file.split == "train"}
    validation = {digest(file) for file in everything if file.split == "validation"}
    assert train and validation
    assert not train & validation


def test_copies_are_read_once_and_the_order_is_fixed(corpora):
    for files in corpora.values():
        digests = [digest(file) for file in files]
        assert len(digests) == len(set(digests))
        assert [file.name for file in files] == sorted(file.name for file in files)


def test_names_and_sizes_are_those_of_the_files(corpora):
    for files in corpora.values():
        for file in files:
            root, _, inside = file.name.partition("/")
            assert file.path == installed.roots()[root] / inside
            assert file.size == file.path.stat().st_size


def test_standard_library_holds_modules_and_no_tests(corpora):
    names = {file.name for file in corpora["standard library"]}
    assert {"stdlib/argparse.py", "stdlib/json/decoder.py", "stdlib/heapq.py"} <= names
    folders = {part for name in names for part in name.split("/")[:-1]}
    assert not folders & {"test", "tests", "idle_test", "site-packages", "encodings", "__pycache__"}
    assert sum(file.size for file in corpora["standard library"]) > 5_000_000


def test_code_passes_the_filters_of_the_paper(corpora):
    for name in ("standard library", "python", "c", "cpp"):
        for file in corpora[name]:
            assert filters.rejection(file.path.read_text("utf-8")) is None, file.name


def test_a_language_is_capped(corpora):
    for name in ("python", "c", "cpp"):
        largest = max(file.size for file in corpora[name])
        assert sum(file.size for file in corpora[name]) < installed.MAX_LANGUAGE_BYTES + largest


def test_headers_are_c_or_cpp_by_their_content(corpora):
    assert not {file.path for file in corpora["c"]} & {file.path for file in corpora["cpp"]}
    for file in corpora["c"]:
        assert "\nnamespace " not in file.path.read_text("utf-8")


def test_prose_is_prose(corpora):
    names = [file.name for file in corpora["prose"]]
    assert "stdlib/pydoc_data/topics.py" in names
    assert not [name for name in names if "LICEN" in name.rpartition("/")[2].upper()]
    for file in corpora["prose"]:
        documents = installed.prose_documents(file.path)
        assert documents and all(documents)


def test_topics_are_documents_of_their_own():
    path = installed.roots()["stdlib"] / "pydoc_data" / "topics.py"
    documents = installed.prose_documents(path)
    assert len(documents) > 50
    assert any(text.startswith('The "assert" statement') for text in documents)


def test_a_description_comes_without_its_fields(tmp_path):
    path = tmp_path / "METADATA"
    path.write_text("Name: x\nVersion: 1\n\n" + "Some words to read about it.\n" * 20)
    assert installed.prose_documents(path) == ["Some words to read about it.\n" * 20]


@pytest.fixture
def small_machine(tmp_path, monkeypatch):
    """A machine with one library file, two packages that carry it again, and a latin-1 file."""
    source = "def f(x):\n    return x\n"
    library, packages = tmp_path / "lib", tmp_path / "site"
    for folder in (library / "test", packages / "a", packages / "b" / "tests"):
        folder.mkdir(parents=True)
    (library / "m.py").write_text(source)
    (library / "test" / "t.py").write_text("t = 1\n")
    (packages / "a" / "copy.py").write_text(source)
    (packages / "a" / "own.py").write_text("own = 1\n")
    (packages / "a" / "latin.py").write_bytes(b"# caf\xe9\n")
    (packages / "b" / "tests" / "t.py").write_text("b = 2\n")
    places = {"stdlib": library, "include": tmp_path / "no", "packages": packages}
    monkeypatch.setattr(installed, "roots", lambda: places)
    cached = (installed.code, installed.standard_library)
    for function in cached:
        function.cache_clear()
    yield places
    for function in cached:
        function.cache_clear()


def test_a_poor_machine_still_has_its_own_files(small_machine):
    assert [file.name for file in installed.standard_library()] == ["stdlib/m.py"]
    python = installed.code("python")
    assert len(python) == 2  # the library's file or its copy, and the package's own
    assert "packages/a/own.py" in [file.name for file in python]
    assert installed.code("rust") == ()


def test_unknown_language_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"'javascrip'.*nearest: javascript"):
        installed.code("javascrip")


def test_roots_are_the_running_pythons():
    places = installed.roots()
    assert str(places["stdlib"]) == sysconfig.get_path("stdlib")
    assert str(places["packages"]) == sysconfig.get_path("purelib")


SOURCE = '''
def add(a, b):
    """Return the sum of two numbers."""
    return a + b


class Box:
    """Holds one thing for later."""

    @property
    def thing(
        self,
    ):
        """What was put in.

        Or nothing at all.
        """
        # The comment stays.
        if self._thing is None:
            return "!"
        return self._thing

    def empty(self):
        """To be written by a subclass."""
        raise NotImplementedError

    def short(self):
        """Too short."""
        return 1

    def bare(self):
        return "no promise here"

    async def text(self):
        """A body whose string must not be moved."""
        return """
left
"""


def one_line(): """Documented, but all in one line."""; return 1
'''

ADD = (
    "### Instruction:\nReturn the sum of two numbers.\n\n### Input:\ndef add(a, b):\n\n"
    "### Answer:\n",
    "    return a + b\n",
)
THING = (
    "### Instruction:\nWhat was put in.\n\nOr nothing at all.\n\n"
    "### Input:\ndef thing(\n    self,\n):\n\n### Answer:\n",
    "    # The comment stays.\n    if self._thing is None:\n"
    '        return "!"\n    return self._thing\n',
)


def test_pairs_of_a_module():
    assert installed.instruction_pairs(SOURCE) == [ADD, THING]


def test_source_that_does_not_parse_has_no_pairs():
    assert installed.instruction_pairs("def f(:\n") == []
    assert installed.instruction_pairs("x = '\x00'\n") == []


def test_signature_and_answer_of_the_library_are_programs_together():
    pairs = [
        pair
        for file in installed.documented_modules()[::8]
        for pair in installed.instruction_pairs_of_file(file.path)
    ]
    assert len(pairs) > 200
    for prompt, answer in pairs:
        signature = prompt.partition("### Input:\n")[2].partition("\n\n### Answer:\n")[0]
        (function,) = ast.parse(signature + "\n" + answer).body
        assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)


def test_modules_with_pairs_keep_their_split():
    modules = installed.documented_modules()
    assert set(modules) <= set(installed.standard_library())
    assert {file.split for file in modules} == {"train", "validation"}
    assert sum(len(installed.instruction_pairs_of_file(file.path)) for file in modules) > 2_000
