"""What a job leaves of itself in its directory, so that nobody takes it for another."""

from __future__ import annotations

import json

from etils import epath

from experiments.declaration import Declaration

RECEIPT = "experiment.json"


def read(job: epath.Path) -> dict | None:
    """What the job wrote of itself; None for a job that no run of ours made."""
    path = job / RECEIPT
    return json.loads(path.read_text()) if path.exists() else None


def write(job: epath.Path, declaration: Declaration, class_name: str, start: dict | None) -> None:
    """Writes what the job runs and which checkpoint it starts from, whole or not at all.

    Args:
      job: its directory; made if it is not there.
      declaration: of the experiment.
      class_name: `module.Class`, as the stock binary took it.
      start: `experiment`, `job` and `step` of the start weights; None for random ones.
    """
    receipt = {
        "experiment": declaration.name,
        "class": class_name,
        "recipe": declaration.recipe.name,
        "mesh": str(declaration.mesh),
        "mixture": declaration.mixture,
        "steps": declaration.steps,
        "batch_tokens": declaration.batch_tokens,
        "start": start,
    }
    job.mkdir(parents=True, exist_ok=True)
    unfinished = job / f"{RECEIPT}.unfinished"
    unfinished.write_text(json.dumps(receipt, indent=2) + "\n")
    unfinished.replace(job / RECEIPT)


def check_resumed(job: epath.Path, declaration: Declaration) -> None:
    """Refuses to go on with another experiment's checkpoints.

    Raises:
      ValueError: the job has a receipt of another experiment or recipe.
    """
    found = read(job)
    if found is None:
        return
    wanted = {"experiment": declaration.name, "recipe": declaration.recipe.name}
    for key, value in wanted.items():
        if found[key] != value:
            raise ValueError(
                f"{job} holds checkpoints of {key} {found[key]}; wanted {value}: give "
                f"{declaration.name} a --job_log_dir of its own"
            )
