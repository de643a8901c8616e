"""Programming languages by extension and by name."""

import pytest

from codegen_pax.data import installed
from codegen_pax.data.prepare import settings as prepare_settings
from codegen_pax.data.rules import languages


@pytest.mark.parametrize(
    ("path", "text", "language"),
    [
        ("a/b.py", "", "python"),
        ("a/B.JAVA", "", "java"),
        ("x.h", "int f(void);", "c"),
        ("x.h", "namespace a {}", "cpp"),
        ("x.cc", "", "cpp"),
        ("Makefile", "", None),
        ("py", "", None),
    ],
)
def test_a_language_by_its_ending(path, text, language):
    assert languages.detect(path, text) == language


def test_a_c_header_is_not_cpp_because_c_is_not_wanted():
    assert languages.detect("x.h", "int f(void);", ("cpp",)) is None


def test_prefix_is_one_comment():
    assert languages.prefix("python") == "# Python\n"
    assert languages.prefix("cpp") == "// C++\n"
    with pytest.raises(ValueError, match="nearest: python"):
        languages.prefix("pyton")


def settings_of(corpus, expected=()):
    return prepare_settings.Settings(corpus, "out", languages=tuple(expected))


@pytest.mark.parametrize(
    ("spellings", "language"),
    [
        ("cpp C++ c++ CPlusPlus c-plus-plus .cpp hpp", "cpp"),
        ("csharp C# c-sharp cs", "csharp"),
        ("solidity Solidity SOLIDITY sol", "solidity"),
        ("javascript JavaScript js JS", "javascript"),
        ("typescript TypeScript ts", "typescript"),
        ("python Python py python3", "python"),
        ("go Go golang", "go"),
        ("rust rs", "rust"),
        ("shell sh bash shell_script", "shell"),
        ("c C", "c"),
        ("r R", "r"),
        ("kotlin kt", "kotlin"),
    ],
)
def test_a_language_in_any_usual_spelling(spellings, language):
    assert {languages.resolve(spelling) for spelling in spellings.split()} == {language}
    assert settings_of("tree", spellings.split()).languages == (language,)


@pytest.mark.parametrize("name", ["h", "", "pyton", "objective-c", "+"])
def test_what_names_no_language(name):  # .h is of two
    with pytest.raises(ValueError, match="no language is called"):
        languages.resolve(name)


def test_no_spelling_is_of_two_languages():
    """Each language is found by its key and its label, whatever the others are called."""
    for key, entry in languages.LANGUAGES.items():
        assert languages.resolve(key) == languages.resolve(entry.label) == key
        assert languages.prefix(entry.label) == f"{entry.comment} {entry.label}\n"


def test_the_languages_of_a_corpus_unless_others_are_asked_for(monkeypatch):
    monkeypatch.setitem(languages.LANGUAGES, "zig", languages.Language("Zig", (".zig",)))
    assert settings_of("tree").languages == tuple(languages.LANGUAGES)
    assert settings_of("bigquery").languages == languages.DEFAULT
    assert settings_of("bigpython").languages == ("python",)


def test_the_endings_that_nothing_was_kept_of_are_listed():
    paths = [
        *["x/a.sol"] * 2_709,
        "b.SOL",
        "Makefile",
        *["c.zig"] * 2,
        *[f"a.x{n}" for n in range(9)],
    ]
    endings = languages.count_extensions(paths)
    assert list(endings.items())[:4] == [(".sol", 2_710), (".zig", 2), ("", 1), (".x0", 1)]
    message = languages.describe_extensions(endings, ("python",))
    assert message.startswith(
        "files by extension: 2,710 .sol (--languages solidity), 2 .zig, 1 without an extension,"
        " 1 .x0, "
    )
    assert "2 other extensions; a language that the table lacks is one entry in" in message
    assert "1 .h (--languages c or cpp)" in languages.describe_extensions({".h": 1}, ("go",))
    assert "3 .py;" in languages.describe_extensions({".py": 3}, ("python",))  # it was another rule


def test_one_entry_adds_a_language_everywhere(monkeypatch):
    monkeypatch.setitem(languages.LANGUAGES, "zig", languages.Language("Zig", (".zig",)))
    assert languages.detect("a.zig", "") == "zig"
    assert languages.prefix("zig") == "// Zig\n"
    assert installed.code("zig") == ()
