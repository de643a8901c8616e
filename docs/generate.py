"""Writes the parts of the documentation that are generated from the code.

Tables, settings and help come from the code itself, through the command's own `--json` and
`--help` where it has them, so that no page can disagree with it. `write_all` fills
`docs/generated/`: `include/` holds parts of pages, `api/` whole pages.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from codegen_pax.cli.core.main import main as codegen_pax_main
from codegen_pax.environment import diagnosis, pins
from docs import diagrams, reference
from experiments.phases import PHASES
from experiments.recipes import RECIPES
from experiments.settings import VARIABLES
from experiments.sizes import SIZES

PROJECT = Path(__file__).parents[1]
COLUMNS = "90"  # the width of the help's lines
# The phase whose experiments represent their sizes, and the experiment that represents recipes.
PHASE_OF_SIZES, EXPERIMENT_OF_RECIPES = "Mono", "CodeGen350MMono"
README_TABLE = re.compile(r"(<!-- experiments.*?-->\n).*?(<!-- end -->)", re.DOTALL)

Json = dict[str, Any]  # an object that the command printed


def write_all(folder: Path) -> None:
    """Writes every generated file into `folder`, and leaves files alone that have not changed."""
    contents = {f"include/{name}.md": text for name, text in includes().items()}
    contents |= {f"api/{name}.rst": text for name, text in reference.pages().items()}
    contents |= {f"{name}.svg": text for name, text in diagrams.svgs().items()}
    for stale in [path for path in folder.rglob("*") if path.is_file()]:
        if str(stale.relative_to(folder)) not in contents:
            stale.unlink()
    for name, text in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def includes() -> dict[str, str]:
    """Returns the parts of pages: name of the file -> Markdown."""
    listed = json.loads(command("list", "--json"))
    shown = {row["name"]: row for row in json.loads(command("show", "--json", *_names(listed)))}
    return {
        "experiments": experiments_table(listed),
        "sizes": sizes_table(shown),
        "phases": phases_table(shown),
        "meshes": meshes_table(shown),
        "recipes": recipes_table(),
        "settings": settings_table(),
        "commands": commands(),
        "pins": pins_table(),
        "dependencies": dependencies_table(),
    }


def version() -> str:
    """Returns the package's version, as setup.py has it."""
    match = re.search(r'version="([^"]+)"', (PROJECT / "setup.py").read_text(encoding="utf-8"))
    assert match, "setup.py has no version"
    return match[1]


def command(*arguments: str, **environment: str) -> str:
    """Returns what `codegen-pax` prints, run in this process with no CODEGEN_* variable but these.

    Raises:
        RuntimeError: The command fails.
    """
    ours = {name for name in os.environ if name.startswith("CODEGEN_")}
    before = dict(os.environ)
    printed, errors = io.StringIO(), io.StringIO()
    for name in ours:
        del os.environ[name]
    os.environ.update(environment, COLUMNS=COLUMNS)
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
            status = codegen_pax_main(arguments)
    finally:
        os.environ.clear()
        os.environ.update(before)
    if status:
        raise RuntimeError(f"codegen-pax {' '.join(arguments)}: {errors.getvalue()}")
    return printed.getvalue()


def verbs() -> list[str]:
    """Returns the verbs of the command, as its help lists them."""
    return re.findall(r"^    ([a-z][\w-]*)", command("--help"), re.MULTILINE)


def commands() -> str:
    """Returns a section for each verb, with its help."""
    sections = []
    for words in ([], *([verb] for verb in verbs())):
        title = " ".join(["codegen-pax", *words])
        text = command(*words, "--help").rstrip()
        sections.append(f"## `{title}`\n\n```text\n{text}\n```\n")
    return "\n".join(sections)


def experiments_table(listed: Sequence[Json]) -> str:
    """Returns a row for each experiment of the tables; unverified values have a dagger."""

    def marked(row: Json, name: str, text: str) -> str:
        return f"{text}†" if name in row["unverified"] else text

    return table(
        ("experiment", "tokens", "steps", "batch, tokens", "rate", "mesh", "starts from"),
        (
            (
                f"`{row['name']}`",
                _short(row["tokens"]),
                marked(row, "steps", _grouped(row["steps"])),
                _grouped(row["batch_tokens"]),
                marked(row, "learning_rate", f"{row['learning_rate']:.1e}"),
                row["mesh"],
                (row["start"] or "random").removeprefix(f"CodeGen{row['size']}"),
            )
            for row in listed
        ),
    )


def sizes_table(shown: Mapping[str, Json]) -> str:
    """Returns a row for each size."""
    return table(
        ("size", "layers", "D", "heads × H", "rotary", "context", "vocabulary", "parameters"),
        (
            (
                size,
                network["layers"],
                _grouped(network["model_dims"]),
                f"{network['heads']} × {network['head_dims']}",
                network["rotary_dims"],
                _grouped(network["context"]),
                _grouped(network["vocab_size"]),
                _grouped(network["released_parameters"]),
            )
            for size, network in _of_sizes(shown, "network")
        ),
    )


def meshes_table(shown: Mapping[str, Json]) -> str:
    """Returns a row for each size: where it runs, and how its batch is cut."""
    rows = []
    for size, recipe in _of_sizes(shown, "recipe"):
        row = shown[f"CodeGen{size}{PHASE_OF_SIZES}"]
        rows.append(
            (
                size,
                row["mesh"],
                row["hardware"],
                _grouped(recipe["batch_rows"]),
                _grouped(recipe["micro_batch_rows"]),
                recipe["accumulation_steps"],
            )
        )
    heads = ("size", "replica × data × mdl", "hardware", "rows a step", "rows a micro-batch")
    return table((*heads, "accumulation steps"), rows)


def phases_table(shown: Mapping[str, Json]) -> str:
    """Returns a row for each phase, as the published sizes have it: Nano reads other data."""
    size = EXPERIMENT_OF_RECIPES.removeprefix("CodeGen").removesuffix(PHASE_OF_SIZES)
    rows = []
    for phase in PHASES:
        row = shown[f"CodeGen{size}{phase}"]
        data = row["details"]["data"]
        rows.append(
            (
                phase,
                (row["start"] or "random weights").removeprefix(f"CodeGen{size}"),
                f"`{row['data']}`",
                ", ".join(data["languages"]) or "–",
                f"`{data['vocabulary']}`",
                data["loss_on"],
                _short(data["corpus_tokens"]),
            )
        )
    heads = ("phase", "starts from", "mixture", "languages", "vocabulary", "loss on")
    return table((*heads, "tokens published"), rows)


def recipes_table() -> str:
    """Returns a row for each value of a recipe, a column for each recipe."""
    recipes = {}
    for name in RECIPES:
        (row,) = json.loads(command("show", "--json", EXPERIMENT_OF_RECIPES, CODEGEN_RECIPE=name))
        recipes[name] = row["details"]["recipe"]
    fields = next(iter(recipes.values()))
    return table(
        (f"of `{EXPERIMENT_OF_RECIPES}`", *(f"`{name}`" for name in recipes)),
        ((f"`{field}`", *(recipes[name][field] for name in recipes)) for field in fields),
    )


def settings_table() -> str:
    """Returns a section for each variable of the environment that the project reads."""
    return "\n".join(
        f"## `{variable.name}`\n\n{variable.description}\n\n"
        f"Values\n: {variable.values}\n\nUnset\n: {variable.default}\n"
        for variable in VARIABLES.values()
    )


def pins_table() -> str:
    """Returns the pinned packages for which it is known what another version breaks."""
    locked = pins.locked()
    return table(
        ("package", "version", "with another version"),
        ((f"`{name}`", locked[name], why) for name, why in diagnosis.BREAKS.items()),
    )


def dependencies_table() -> str:
    """Returns what the project depends on, and why, from docs/dependencies.toml."""
    reasons = tomllib.loads((PROJECT / "docs" / "dependencies.toml").read_text(encoding="utf-8"))
    return "\n".join(
        f"## {title}\n\n"
        + table(
            ("packages", "why"),
            (
                (", ".join(f"`{name}`" for name in entry["packages"]), entry["why"])
                for entry in entries
            ),
        )
        for title, entries in reasons.items()
    )


def readme_table() -> str:
    """Returns the README's table: sizes by phases, in tokens."""
    listed = json.loads(command("list", "--json"))
    rows = {(row["size"], row["phase"]): row for row in listed}
    return table(
        ("size", "parameters", "hardware", *(f"{phase}, tokens" for phase in PHASES)),
        (
            (
                f"**{size}**",
                _grouped(rows[size, PHASE_OF_SIZES]["parameters"]),
                rows[size, PHASE_OF_SIZES]["hardware"],
                *(_short(rows[size, phase]["tokens"]) for phase in PHASES),
            )
            for size in SIZES
        ),
    )


def with_readme_table(readme: str) -> str:
    """Returns the README's text with its table written anew."""
    return README_TABLE.sub(lambda match: f"{match[1]}\n{readme_table()}\n{match[2]}", readme)


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns a Markdown table; '|' in a cell is escaped, None is empty."""

    def line(cells: Iterable[object]) -> str:
        texts = ("" if cell is None else str(cell).replace("|", "\\|") for cell in cells)
        return f"| {' | '.join(texts)} |"

    return "\n".join([line(heads), line("---" for _ in heads), *map(line, rows), ""])


def _names(listed: Sequence[Json]) -> list[str]:
    return [str(row["name"]) for row in listed]


def _of_sizes(shown: Mapping[str, Json], group: str) -> Iterator[tuple[str, Json]]:
    for size in SIZES:
        yield size, shown[f"CodeGen{size}{PHASE_OF_SIZES}"]["details"][group]


def _grouped(number: object) -> str:
    return f"{number:,}"


def _short(number: int | None) -> str:
    """Returns a short count, such as 183.5B for billions; '–' for None."""
    if number is None:
        return "–"
    for scale, unit in ((10**9, "B"), (10**6, "M")):
        if number >= scale:
            return f"{number / scale:.1f}{unit}"
    return f"{number:,}"


if __name__ == "__main__":
    readme = PROJECT / "README.md"
    readme.write_text(with_readme_table(readme.read_text(encoding="utf-8")), encoding="utf-8")
    sys.stdout.write("README.md: the table of experiments is up to date\n")
