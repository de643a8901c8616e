"""Source code of one's own, prepared from a folder of repositories: a corpus that you name."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import seqio

from codegen_pax.errors import InvalidValueError
from tasks import bigquery


def tree(name: str, languages: Sequence[str] | Mapping[str, float]) -> seqio.Mixture:
    """The mixture `codegen_<name>` of the languages of `$CODEGEN_DATA/<name>`.

    In a module of your own, for a corpus that `codegen-pax prepare tree` left there:

        tree("ours", ("python", "go"))
        declare_phase(Phase("Ours", languages=("python", "go"), start="Mono", tokens=10**9))

    Args:
      name: of the corpus's folder.
      languages: as the shares of `bigquery.mixture`.

    Raises ValueError for an unknown language, or if another task or mixture has a name that this
      one needs.
    """
    if f"codegen_{name}" in seqio.TaskRegistry.names():
        raise InvalidValueError(
            f"task codegen_{name} is there already; wanted another name than {name}"
        )
    task = functools.partial(
        bigquery.language_task, corpus=name, kind="tree", raw="a folder of repositories"
    )
    return bigquery.mixture(f"codegen_{name}", languages, task)
