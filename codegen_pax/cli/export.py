"""`codegen-pax export`: a Pax checkpoint's weights for transformers, as CodeGen or as GPT-J."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from codegen_pax.cli.core.arguments import Job, add_module_argument, local_folder, open_job
from codegen_pax.cli.core.terminal import Terminal, in_background
from codegen_pax.errors import InvalidValueError, UsageError

if TYPE_CHECKING:
    from codegen_pax.runs import lineage
    from codegen_pax.runs.checkpoint_arrays import Variables
    from codegen_pax.weights.conversion import StagingFolder
    from codegen_pax.weights.exporting import Plan

_MODEL_TYPES = {"hf": "codegen", "gptj": "gptj"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("kind", choices=tuple(_MODEL_TYPES), help="as CodeGen (hf) or GPT-J")
    parser.add_argument("run", help="the run's folder, given to Pax as --job_log_dir")
    parser.add_argument("folder", type=local_folder, help="a new one, for transformers")
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
    """Exports the weights, and prints what was written."""
    from codegen_pax.floats import dtype
    from codegen_pax.runs import fingerprints, lineage
    from codegen_pax.runs.checkpoint_arrays import Variables
    from codegen_pax.weights import conversion, exporting, layouts

    try:
        kind = dtype(args.dtype) if args.dtype else None
    except InvalidValueError as error:
        raise UsageError(error) from error
    output = args.folder.resolve()
    conversion.check_new(output)
    job = open_job(args.run, args.experiment, args.module, args.step)
    size = job.declaration.size
    dims = layouts.Dimensions.of(size, embedding_bias=job.declaration.recipe.embedding_bias)
    make_layout = {"hf": layouts.hugging_face, "gptj": layouts.gptj}[args.kind]
    console = Terminal(stderr=args.json, highlight=False)
    variables = Variables(job.checkpoint)
    rows = _vocabulary_rows(variables, job, console)
    layout = make_layout(dataclasses.replace(dims, vocab_size=rows))
    plan = exporting.make_plan(variables, dims, layout, kind, keep_parts=args.kind == "hf")
    stamps = fingerprints.stamps(job.checkpoint)
    needed = plan.num_bytes + plan.scratch_bytes + conversion.OTHER_BYTES
    conversion.check_room(output, needed)
    with conversion.StagingFolder(output) as staging:
        receipt = _write(args, plan, job, stamps, staging, console)
    if args.json:
        result = {
            "experiment": job.declaration.name,
            "run": str(job.directory),
            "step": job.step,
            "sha256": receipt["parents"][0]["sha256"],
            "layout": plan.layout.name,
            "output": str(output),
            "files": [{"name": file.name, "bytes": file.size()} for file in plan.files()],
            "parameters": plan.num_parameters,
            "dtypes": plan.dtype_names,
            "bytes": plan.num_bytes,
            "mp_num": plan.layout.mp_num,
            "vocabulary_rows": rows,
            "lineage": str(output / lineage.FILE),
        }
        print(json.dumps(result, indent=2))
        return 0
    console.print(
        f"{args.folder}: {job.declaration.name} of step {job.step:,} for transformers, as "
        f"{plan.layout.name} has it, in {' and '.join(plan.dtype_names)}, "
        f"{plan.num_bytes / 1e9:.2f} GB",
        soft_wrap=True,
    )
    return 0


def _vocabulary_rows(variables: Variables, job: Job, console: Terminal) -> int:
    """Returns how many rows of the vocabulary are exported.

    If an import added rows, only the imported rows are exported. If the added rows have been
    trained since, which happens only with a user's own tokens, all rows are exported.
    """
    from codegen_pax.weights import embedding_table

    network_rows = job.declaration.size.vocab_size
    rows = embedding_table.imported_rows(job.receipt) or network_rows
    if rows >= network_rows:
        return network_rows
    added = f"{network_rows - rows:,} rows of the vocabulary, which the import added to {rows:,},"
    if not embedding_table.added_rows_are_unchanged(variables, rows):
        console.print(f"{added} have been trained since: all are exported", soft_wrap=True)
        return network_rows
    console.print(f"{added} are left out", soft_wrap=True)
    return rows


def _write(
    args: argparse.Namespace,
    plan: Plan,
    job: Job,
    stamps: list[list],
    staging: StagingFolder,
    console: Terminal,
) -> lineage.Receipt:
    """Fills the staging folder and commits it.

    Returns:
        The receipt of the export.

    Raises:
        ValueError: The checkpoint no longer has the files of `stamps`.
    """
    from codegen_pax.environment import code
    from codegen_pax.runs import fingerprints, lineage, progress
    from codegen_pax.text.tokenizer import end_of_text_id, write_tokenizer
    from codegen_pax.weights import exporting, hugging_face, tensor_files
    from codegen_pax.weights.model_card import card

    with in_background(fingerprints.fingerprint, job.checkpoint) as hashing:
        with progress.follow_bytes("exporting", plan.moved_bytes, console) as on_bytes:
            exporting.run(plan, staging.path, on_bytes)
        hashed = hashing.result()
    # A removed chunk reads as zeros, and a job that trains removes its old checkpoints.
    if fingerprints.stamps(job.checkpoint) != stamps:
        raise InvalidValueError(
            f"{job.checkpoint} was changed while it was read: export another step"
        )
    rows, _ = plan.layout.shapes["lm_head.weight"]
    size = dataclasses.replace(job.declaration.size, vocab_size=rows)
    kind = max(plan.dtype_names, key=["bfloat16", "float16", "float32"].index)
    if len(plan.weight_files) > 1:
        index = tensor_files.safetensors_index(plan.weight_files)
        _save(staging.path / tensor_files.SAFETENSORS_INDEX, index)
    model_type = _MODEL_TYPES[args.kind]
    vocabulary = job.declaration.vocabulary
    tokenizer = write_tokenizer(
        staging.path,
        vocabulary,
        size.context,
        length=rows if model_type == "gptj" else None,
    )
    end = end_of_text_id(vocabulary)
    config = hugging_face.config(
        size,
        model_type=model_type,
        dtype=kind,
        tokenizer_class=tokenizer,
        end_of_text_id=end,
    )
    _save(staging.path / "config.json", config)
    _save(staging.path / "generation_config.json", hugging_face.generation_config(end))
    parent = lineage.parent(job.directory, job.step, hashed) | {"experiment": job.declaration.name}
    fields = dict(job.receipt or job.receipt_fields())
    for name in ("history", "resumed"):  # the parent's own receipt has them
        fields.pop(name, None)
    receipt = fields | {
        "format": lineage.FORMAT,
        "kind": "export",
        "layout": plan.layout.name,
        "dtype": kind,
        "parents": [parent],
        "versions": lineage.versions(),
        "code": {code.PROJECT: code.of_project()},
    }
    lineage.write(staging.path, receipt)
    text = card(
        job.declaration.name,
        model_type=model_type,
        step=job.step,
        sha256=hashed["sha256"],
        dtype=kind,
        num_parameters=plan.num_parameters,
        lineage=job.receipt,
    )
    (staging.path / "README.md").write_text(text, encoding="utf-8")
    staging.commit()
    return receipt


def _save(path: Path, document: dict) -> None:
    path.write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")
