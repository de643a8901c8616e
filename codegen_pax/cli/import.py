"""`codegen-pax import`: weights of Hugging Face or jaxformer into a Pax checkpoint."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codegen_pax.cli.core.arguments import (
    add_module_argument,
    class_path,
    find_experiments,
    local_folder,
)
from codegen_pax.cli.core.terminal import Terminal, in_background, waiting
from codegen_pax.errors import InvalidValueError, UsageError
from codegen_pax.silent_imports import silenced

if TYPE_CHECKING:
    from codegen_pax.weights.adapters import MergedReader
    from codegen_pax.weights.importing import Plan
    from codegen_pax.weights.layouts import Layout
    from codegen_pax.weights.tensors import TensorReader
    from experiments.declaration import Declaration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("kind", choices=("hf", "jaxformer"), help="whose layout")
    parser.add_argument(
        "folder",
        type=local_folder,
        help="a folder that transformers saved; or jaxformer's <ckpt_dir>/<step>",
    )
    parser.add_argument(
        "--experiment", required=True, help="the experiment of the network, as in CodeGen350MMono"
    )
    parser.add_argument(
        "--output",
        type=local_folder,
        required=True,
        help="the job's folder, which Pax trains on from",
    )
    parser.add_argument(
        "--adapter",
        type=local_folder,
        help="a folder that PEFT saved, with a LoRA adapter that is merged into the weights",
    )
    parser.add_argument(
        "--mp-num",
        type=int,
        choices=(1, 2, 4, 8),
        help="column groups of the fused matrix: 4 for hf; for jaxformer 8 on TPU v3, 4 on v4, "
        "detected in the weights where they show it",
    )
    parser.add_argument(
        "--no-check-mp-num", action="store_true", help="believe --mp-num against the weights"
    )
    parser.add_argument(
        "--json", action="store_true", help="print one object; progress goes to standard error"
    )
    add_module_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Imports the weights, and prints what was written."""
    from codegen_pax.runs import checksums, fingerprints, lineage, progress
    from codegen_pax.weights import conversion, importing
    from experiments.declaration import configured
    from experiments.settings import from_environment

    console = Terminal(stderr=args.json, highlight=False)
    (declared,) = find_experiments([args.experiment], args.module)
    settings = from_environment()
    declaration = configured(declared, settings)
    output = args.output.resolve()
    conversion.check_new(output)
    plan, parent, adapter = _examine(args, declaration, console)
    conversion.check_room(output, plan.num_bytes + conversion.OTHER_BYTES)
    stamps = _stamps(plan)
    with (
        plan.closing(),
        conversion.StagingFolder(output) as staging,
        in_background(fingerprints.hash_files, plan.paths()) as hashing,
    ):
        with waiting("importing Pax, which takes about half a minute"), silenced():
            from paxml import experiment_registry

            import codegen  # noqa: F401  (registers the experiments)
            from codegen_pax.training.train_state import train_state_spec
            from experiments import job_receipt

            experiment = experiment_registry.get(class_path(declared))(settings)
            state = train_state_spec(
                experiment.task(), experiment.get_input_specs_provider_params()
            )
        with progress.follow_bytes("importing", plan.moved_bytes, console) as on_bytes:
            importing.run(plan, state, staging.path, on_bytes)
        parent |= _hashed_files(plan, adapter, hashing.result())
        if _stamps(plan) != stamps:
            raise InvalidValueError(f"{args.folder} was changed while it was read: import it again")
        receipt = job_receipt.document(
            experiment, class_path(declared), [parent], "import", data=[]
        )
        for folder in (staging.path, staging.path / importing.CHECKPOINT):
            lineage.write(folder, receipt)
        checksums.write(staging.path / importing.CHECKPOINT)
        staging.commit()
    if args.json:
        result = {
            "experiment": declaration.name,
            "class": class_path(declared),
            "recipe": declaration.recipe.name,
            "source": {key: value for key, value in parent.items() if key != "lineage"},
            "output": str(output),
            "checkpoint": str(output / importing.CHECKPOINT),
            "step": 0,
            "parameters": plan.num_parameters,
            "dtypes": plan.dtype_names,
            "bytes": plan.num_bytes,
            "vocabulary_rows": declaration.size.vocab_size,
            "lineage": str(output / lineage.FILE),
        }
        print(json.dumps(result, indent=2))
        return 0
    console.print(
        f"{args.output}: {plan.num_parameters:,} parameters of {declaration.name} in "
        f"{' and '.join(plan.dtype_names)}, {plan.num_bytes / 1e9:.2f} GB, at step 0",
        soft_wrap=True,
    )
    return 0


def _hashed_files(
    plan: Plan, adapter: MergedReader | None, hashed: list[dict[str, Any]]
) -> dict[str, Any]:
    """Returns the files that were read, with their hashes, as the receipt of an import has them."""
    from codegen_pax.weights import adapters

    if adapter is None:
        return {"files": hashed}
    of_adapter = adapter.adapter_paths()
    pairs = [*zip(plan.paths(), hashed, strict=True)]
    return {
        "files": [file for path, file in pairs if path not in of_adapter],
        "adapter": adapters.lineage_entry(
            adapter, [file for path, file in pairs if path in of_adapter]
        ),
    }


def _stamps(plan: Plan) -> list[list]:
    """Returns values that stay equal as long as the files do not change."""
    stats = [(path, path.stat()) for path in plan.paths()]
    return [
        # Both times: a copy may keep the modification time, but never the change time.
        [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
        for path, stat in stats
    ]


def _examine(
    args: argparse.Namespace, declaration: Declaration, console: Terminal
) -> tuple[Plan, dict, MergedReader | None]:
    """Finds and checks the weights.

    Returns:
        The plan of the import, the entry for the receipt's `parents`, and the adapter that is
        merged into the weights, if any.
    """
    from codegen_pax.runs import lineage
    from codegen_pax.weights import importing, jaxformer_checkpoint, layouts
    from codegen_pax.weights.tensors import FileReader

    size = declaration.size
    dims = layouts.Dimensions.of(size, embedding_bias=declaration.recipe.embedding_bias)
    folder = args.folder.absolute()
    parent: dict[str, Any] = {"kind": "hugging face", "directory": str(folder)}
    adapter = None
    reader: TensorReader
    if args.kind == "hf":
        reader, rows, adapter = _hugging_face(args, folder, declaration, console)
        layout = layouts.hugging_face(dims, mp_num=1)
        usual = layouts.HUGGING_FACE_MP_NUM
        parent |= {"lineage": lineage.read(folder), "vocabulary_rows": rows}
    else:
        if args.adapter:
            raise UsageError(f"--adapter {args.adapter}: an adapter is of weights of hf alone")
        tensors, step = jaxformer_checkpoint.find_weights(folder)
        reader = FileReader(tensors)
        layout = layouts.jaxformer(dims, mp_num=1)
        usual = None
        parent |= {"kind": "jaxformer", "step": step}
    # The shapes are the same for every number of groups.
    importing.make_plan(None, reader, layout)
    mp_num, by = _mp_num(args, reader, layout, size.rotary_dims, usual, console)
    parent |= {"mp_num": mp_num, "mp_num_by": by}
    make_layout = layouts.jaxformer if layout.stacked else layouts.hugging_face
    return importing.make_plan(folder, reader, make_layout(dims, mp_num=mp_num)), parent, adapter


def _hugging_face(
    args: argparse.Namespace, folder: Path, declaration: Declaration, console: Terminal
) -> tuple[TensorReader, int | None, MergedReader | None]:
    """Opens the weights of a folder that transformers saved.

    Returns:
        The weights, with the adapter merged and with as many vocabulary rows as the network has;
        the number of rows before any were added; and the adapter, if any.
    """
    from codegen_pax.text.tokenizer import SIZES
    from codegen_pax.weights import adapters, embedding_table, hugging_face
    from codegen_pax.weights.tensors import FileReader

    config = hugging_face.read_config(folder)
    hugging_face.check_config(config, declaration.size)
    reader: TensorReader = FileReader(hugging_face.find_weights(folder))
    rows = embedding_table.vocabulary_rows(reader)
    if rows is not None:
        hugging_face.check_vocab_size(config, rows)
    hugging_face.check_tokenizer(folder, declaration.vocabulary)
    adapter = None
    if args.adapter:
        hugging_face.check_tokenizer(args.adapter, declaration.vocabulary)
        reader = adapter = adapters.merge(reader, args.adapter.absolute())
        rows = embedding_table.vocabulary_rows(reader)
    if rows is None:
        return reader, rows, adapter  # the plan reports the table among the missing tensors
    network_rows = declaration.size.vocab_size
    embedding_table.check_vocabulary_rows(rows, SIZES[declaration.vocabulary], network_rows)
    if rows < network_rows:
        merged = f" with the adapter {args.adapter}" if adapter else ""
        console.print(
            f"{folder}{merged} has {rows:,} rows of the vocabulary: {network_rows - rows:,} that "
            "change nothing are added, and an export leaves them out again",
            soft_wrap=True,
        )
    return embedding_table.pad_vocabulary(reader, network_rows), rows, adapter


def _mp_num(
    args: argparse.Namespace,
    reader: TensorReader,
    layout: Layout,
    rotary_dims: int,
    usual: int | None,
    console: Terminal,
) -> tuple[int, str]:
    """Decides the number of column groups.

    Returns:
        The number, and its origin: 'given', 'usual' or 'weights'.

    Raises:
        UsageError: It is not given, and the weights do not decide it.
        ValueError: The weights rule it out, or it does not divide the heads.
    """
    from codegen_pax.weights import fused_qkv, mp_num

    chosen = args.mp_num or usual
    if chosen is not None:
        fused_qkv.fused_blocks(layout.dims.heads, chosen)  # refuses one that does not divide them
    if args.no_check_mp_num:
        if chosen is None:
            raise UsageError("--no-check-mp-num: expected --mp-num with it")
        return chosen, "given"
    with reader:
        detection = mp_num.detect(reader, layout.dims, rotary_dims, stacked=layout.stacked)
    if chosen is None and detection.mp_num is None:
        raise UsageError(
            f"{detection.summary}: give --mp-num, which is 8 for weights trained on TPU v3, 4 on v4"
        )
    if chosen is not None and chosen not in detection.possible:
        raise InvalidValueError(
            f"{args.folder}: the weights do not have {chosen} column groups: {detection.summary}. "
            f"Import them with --mp-num {detection.possible[0]}, or with --no-check-mp-num to "
            f"believe {chosen} nevertheless"
        )
    decision = "" if detection.mp_num else f"; {chosen} is taken"
    console.print(f"{detection.summary}{decision}", soft_wrap=True)
    if detection.mp_num or chosen is None:
        return detection.possible[0], "weights"
    return chosen, "given" if args.mp_num else "usual"
