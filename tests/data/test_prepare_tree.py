"""A directory of source code of one's own: prepared, traced, and read as a mixture."""

import collections

import numpy as np
import pytest
import seqio
from etils import epath

from codegen_pax.cli.core import main
from codegen_pax.data.format import manifest, trace
from codegen_pax.data.prepare.settings import Settings
from codegen_pax.data.seqio_sources import CorpusMissingError, set_corpora_folder
from codegen_pax.data.stream import inputs
from codegen_pax.text import tokenizer
from experiments.declaration import declare
from experiments.experiment import CodeGenExperiment
from experiments.phases import Phase
from experiments.sizes import SIZES
from tasks.corpora import tree_mixture
from tests.data.prepared_corpora import prepare_corpus

T = 32
NAME = "test_ours"
IGNORED = ("build/out.py", "src/made_by_hand.gen.py", "vendor/theirs.go", "node_modules/a.js")


def python(number):
    return f"def f{number}(x):\n    return [x + {number}, x * {number}]\n"


def go(number):
    return f"package p{number}\n\nfunc f(x int) int {{ return x * {number} }}\n"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A tree with a repository in it, and the folder of corpora with what was made of it."""
    folder = tmp_path_factory.mktemp("tree")
    contents = {f"shop/src/m{n}.py": python(n) for n in range(40)}
    contents |= {f"shop/cmd/m{n}.go": go(n) for n in range(40)}
    contents |= {f"shop/{name}": python(1_000 + n) for n, name in enumerate(IGNORED)}
    contents |= {"shop/.gitignore": "build/\n*.gen.py\n", "shop/.git/HEAD": "ref: x\n"}
    contents |= {"tools/t.py": python(2_000), "tools/README": "About.\n"}
    for name, text in contents.items():
        path = folder / "repositories" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    output = folder / "data" / NAME
    settings = Settings("tree", str(output), row_length=T, validation=0.2, seed=3)
    left_out = collections.Counter()
    made = prepare_corpus(settings, folder / "repositories", at_most=1_000, left_out=left_out)
    return folder, made, epath.Path(output)


@pytest.fixture
def mixture(prepared, monkeypatch):
    folder, *_ = prepared
    set_corpora_folder(folder / "data")
    yield tree_mixture(NAME, ("python", "go"))
    seqio.MixtureRegistry.remove(f"codegen_{NAME}")
    for language in ("python", "go"):
        seqio.TaskRegistry.remove(f"codegen_{NAME}_{language}")


def texts(rows):
    words = tokenizer.load("codegen")
    return {words.decode(list(row), skip_special_tokens=False) for row in rows}


def test_what_is_ignored_or_vendored_is_not_in_the_corpus(prepared):
    _, made, _ = prepared
    assert made.counts["left_out"] == {"git_ignored": 2, "hidden": 1, "vendored": 2}
    totals = manifest.totals_by_rule(made.counts["documents"])
    assert {rule: values[0] for rule, values in totals.items()} == {
        manifest.IN: 82,
        manifest.KEPT: 81,
        "language": 1,
    }  # README is in none
    kept = {
        name: licences[""][manifest.KEPT]
        for name, licences in made.counts["documents"].items()
        if manifest.KEPT in licences[""]
    }
    assert kept["python"][:2] == [41, sum(len(python(n)) for n in (*range(40), 2_000))]
    assert kept["go"][:2] == [40, sum(len(go(n)) for n in range(40))]


def test_a_row_is_traced_to_its_files(prepared):
    folder, made, output = prepared
    words = tokenizer.load("codegen", literal=True)
    seen = set()
    for part in ("python", "go"):
        for shard in made.shards("train", part):
            path = str(output / shard.name)
            data = np.frombuffer((output / shard.name).read_bytes(), made.row_format.dtype)
            for row in range(shard.rows):
                for origin in trace.trace(path, row):
                    file = folder / "repositories" / origin.repository / origin.path
                    assert origin.source == str(file)
                    ids = [*words.encode(file.read_text()).ids, tokenizer.end_of_text_id("codegen")]
                    piece = data[row]["tokens"][origin.column : origin.column + origin.tokens]
                    assert piece.tolist() == ids[origin.offset : origin.offset + origin.tokens]
                    seen.add((origin.repository, origin.path))
    assert {repository for repository, _ in seen} == {"shop", "tools"}
    assert ("tools", "t.py") in seen and len(seen) > 50


def test_a_mixture_reads_the_rows(prepared, mixture):
    _, made, output = prepared
    expected = {
        split: {
            trace.text(str(output / shard.name), row)
            for part in ("python", "go")
            for shard in made.shards(split, part)
            for row in range(shard.rows)
        }
        for split in ("train", "validation")
    }
    dataset = mixture.get_dataset({"targets": T}, split="validation", shuffle=False, num_epochs=1)
    actual = texts(example["targets"] for example in dataset.as_numpy_iterator())
    assert actual == expected["validation"] and len(actual) > 3
    rows = inputs.training_input(mixture.name, batch_size=8, row_length=T, seed=0).Instantiate()
    trained = texts(row for _ in range(4) for row in rows.get_next().ids)
    assert trained <= expected["train"] and len(trained) > 20


def test_a_phase_trains_on_it(mixture):
    phase = Phase(
        "Ours", start="Mono", languages=("python", "go"), tokens=10**9, mixture=mixture.name
    )

    class Ours(CodeGenExperiment):
        DECLARATION = declare(SIZES["350M"], phase)

    training = next(config for config in Ours().datasets() if config.is_training)
    assert training.mixture_name == mixture.name


def test_names_that_are_taken_are_refused(mixture):
    assert tree_mixture(NAME, ["go", "python"]) is mixture
    with pytest.raises(ValueError, match="task codegen_pile is already registered"):
        tree_mixture("pile", ["python"])
    with pytest.raises(ValueError, match="task codegen_bigquery_python is already registered"):
        tree_mixture("bigquery", ["python"])
    with pytest.raises(ValueError, match="is registered as"):
        tree_mixture(NAME, ["python"])


def test_a_tree_that_is_not_prepared_is_told(mixture, monkeypatch, tmp_path):
    set_corpora_folder(tmp_path)
    message = rf"go files of a folder of repositories: codegen-pax prepare tree .*{NAME}"
    with pytest.raises(CorpusMissingError, match=message) as error:
        mixture.get_dataset({"targets": T}, split="train")
    # Of both languages, whichever is read first: one folder holds one corpus.
    command = str(error.value).partition(": codegen-pax prepare tree ")[2]
    assert command == f"--input ... --output {tmp_path / NAME} --languages go python"
    set_corpora_folder(tmp_path / "a b")
    with pytest.raises(CorpusMissingError, match=r"--output '.*/a b/test_ours' --languages"):
        mixture.get_dataset({"targets": T}, split="train")


def test_languages_are_one_whatever_their_spelling(mixture):
    assert tree_mixture(NAME, ["Golang", ".py"]) is mixture
    with pytest.raises(ValueError, match="names a language twice: python, py"):
        tree_mixture(NAME, {"python": 1, "py": 2})


def test_a_tree_without_a_file_of_a_language_is_refused(tmp_path, capsys):
    for name in ("a.zig", "b.sol", "c.sol"):
        (tmp_path / "repositories").mkdir(exist_ok=True)
        (tmp_path / "repositories" / name).write_text("x\n")
    paths = ["--input", str(tmp_path / "repositories"), "--output", str(tmp_path / "out")]
    assert main.main(["prepare", "tree", *paths, "--languages", "C++"]) == 1
    message = capsys.readouterr().err
    assert (
        "no file is in a language that is kept (cpp); files by extension: 2 .sol (--lang" in message
    )
    assert not (tmp_path / "out").exists()
