"""`codegen-pax export`: a Pax checkpoint's weights for transformers, as CodeGen or as GPT-J."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from codegen_pax.cli import opened
from codegen_pax.cli.beside import beside
from codegen_pax.cli.catalogue import add_module_argument
from codegen_pax.errors import InvalidValueError, UsageError

if TYPE_CHECKING:
    from codegen_pax.cli.opened import Run
    from codegen_pax.cli.tables import Terminal
    from codegen_pax.runs import lineage
    from codegen_pax.runs.checkpoint_arrays import Variables
    from codegen_pax.weights.exporting import Plan
    from codegen_pax.weights.workspace import Workspace

HELP = "export a Pax checkpoint's weights for transformers, as CodeGen or as GPT-J"

FORMAT = 1  # of what an export writes
_MODEL_TYPES = {"hf": "codegen", "gptj": "gptj"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=tuple(_MODEL_TYPES), help="as CodeGen (hf) or GPT-J")
    parser.add_argument("run", help="the run's folder, given to Pax as --job_log_dir")
    parser.add_argument("folder", type=opened.local_folder, help="a new one, for transformers")
    parser.add_argument(
        "--dtype",
        help="float32, float16 or bfloat16, or a short name as fp16; as stored if not given",
    )
    parser.add_argument("--step", type=int, help="of the checkpoint; the last one if not given")
    parser.add_argument(
        "--experiment", help="the run's experiment; read from its lineage.json if not given"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one object; progress goes to standard error"
    )
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Exports what `args` say; see `add_arguments`."""
    from codegen_pax.cli.tables import Terminal
    from codegen_pax.runs import lineage
    from codegen_pax.runs.checkpoint_arrays import Variables
    from codegen_pax.weights import cuts, exporting, workspace
    from codegen_pax.weights.layout import Dimensions
    from codegen_pax.weights.tensors import dtype

    try:
        kind = dtype(args.dtype) if args.dtype else None
    except InvalidValueError as error:
        raise UsageError(error) from error
    output = args.folder.resolve()
    workspace.check_new(output)
    found = opened.run(args.run, args.experiment, args.module, args.step)
    size = found.declaration.size
    dims = Dimensions.of(size, embedding_bias=found.declaration.recipe.embedding_bias)
    make = {"hf": cuts.hugging_face, "gptj": cuts.gptj}[args.kind]
    console = Terminal(stderr=args.json, highlight=False)
    variables = Variables(found.checkpoint)
    rows = _vocabulary_rows(variables, found, console)
    chosen = exporting.plan(
        variables, dims, make, kind, keep_parts=args.kind == "hf", vocabulary_rows=rows
    )
    purpose = {
        "format": FORMAT,
        "checkpoint": str(found.checkpoint),
        "files": lineage.stamps(found.checkpoint),
        "layout": chosen.layout.name,
        "dtype": kind and kind.name,
        "vocabulary_rows": rows,
    }
    workspace.check_room(output, chosen.nbytes + chosen.scratch + workspace.BESIDES)
    with workspace.Workspace(output, purpose) as space:
        document = _write(args, chosen, found, purpose["files"], space, console)
    kinds = sorted({kind.name for kind in chosen.dtypes.values()})
    if args.json:
        said = {
            "experiment": found.declaration.name,
            "run": str(found.job),
            "step": found.step,
            "sha256": document["parents"][0]["sha256"],
            "layout": chosen.layout.name,
            "output": str(output),
            "files": [{"name": file.name, "bytes": file.size()} for file in chosen.files()],
            "parameters": chosen.parameters,
            "dtypes": kinds,
            "bytes": chosen.nbytes,
            "mp_num": chosen.layout.mp_num,
            "vocabulary_rows": rows,
            "lineage": str(output / lineage.FILE),
        }
        print(json.dumps(said, indent=2))
        return 0
    console.print(
        f"{args.folder}: {found.declaration.name} of step {found.step:,} for transformers, as "
        f"{chosen.layout.name} has it, in {' and '.join(kinds)}, {chosen.nbytes / 1e9:.2f} GB",
        soft_wrap=True,
    )
    return 0


def _vocabulary_rows(variables: Variables, found: Run, console: Terminal) -> int:
    """How many rows of the vocabulary are exported: those that were imported, if they were fewer.

    All of them if the others have been trained since, which only tokens of one's own do.
    """
    from codegen_pax.weights import vocabulary_rows

    whole = found.declaration.size.vocab_size
    rows = vocabulary_rows.imported(found.document) or whole
    if rows >= whole:
        return whole
    added = f"{whole - rows:,} rows of the vocabulary, which the import added to {rows:,},"
    if not vocabulary_rows.are_unchanged(variables, rows):
        console.print(f"{added} have been trained since: all are exported", soft_wrap=True)
        return whole
    console.print(f"{added} are left out", soft_wrap=True)
    return rows


def _write(
    args: argparse.Namespace,
    chosen: Plan,
    found: Run,
    stamps: list[list],
    space: Workspace,
    console: Terminal,
) -> lineage.Receipt:
    """Fills the workspace and gives it its name; returns the lineage of the export.

    Raises:
      ValueError: the checkpoint has not the files of `stamps` any more.
    """
    from codegen_pax.environment import code
    from codegen_pax.runs import lineage, progress
    from codegen_pax.text.tokenizer import write_tokenizer
    from codegen_pax.weights import exporting, hugging_face, safetensors_files
    from codegen_pax.weights.card import card

    with beside(lineage.fingerprint, found.checkpoint) as hashing:
        with progress.follow_bytes("exporting", chosen.moved, console) as on_bytes:
            exporting.run(chosen, space, on_bytes)
        hashed = hashing.result()
    # A chunk that is gone reads as zeros: a job that trains removes its old checkpoints.
    if lineage.stamps(found.checkpoint) != stamps:
        raise InvalidValueError(
            f"{found.checkpoint} was changed while it was read: export another step"
        )
    rows, _ = chosen.layout.shapes["lm_head.weight"]
    size = dataclasses.replace(found.declaration.size, vocab_size=rows)
    kinds = {kind.name for kind in chosen.dtypes.values()}
    kind = max(kinds, key=["bfloat16", "float16", "float32"].index)
    if len(chosen.shards) > 1:
        _save(space.folder / safetensors_files.INDEX, safetensors_files.index(chosen.shards))
    model_type = _MODEL_TYPES[args.kind]
    tokenizer = write_tokenizer(
        space.folder,
        found.declaration.phase.vocabulary,
        size.context,
        length=rows if model_type == "gptj" else None,
    )
    config = hugging_face.config(size, model_type=model_type, dtype=kind, tokenizer_class=tokenizer)
    _save(space.folder / "config.json", config)
    _save(space.folder / "generation_config.json", hugging_face.generation_config())
    parent = lineage.parent(found.job, found.step, hashed) | {"experiment": found.declaration.name}
    facts = dict(found.document or found.facts())
    for name in ("history", "resumed"):  # in the parent's own
        facts.pop(name, None)
    document = facts | {
        "format": lineage.FORMAT,
        "kind": "export",
        "layout": chosen.layout.name,
        "dtype": kind,
        "parents": [parent],
        "versions": lineage.versions(),
        "code": {code.PROJECT: code.of_project()},
    }
    lineage.write(space.folder, document)
    text = card(
        found.declaration.name,
        layout=model_type,
        step=found.step,
        sha256=hashed["sha256"],
        dtype=kind,
        parameters=chosen.parameters,
        lineage=found.document,
    )
    (space.folder / "README.md").write_text(text, encoding="utf-8")
    space.finish()
    return document


def _save(path: Path, said: dict) -> None:
    path.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n")
