"""The phases of CodeGen: one row a phase. Standard library only, so that listing is instant.

A phase is a corpus, a budget and the weights it starts from. Sources:
  [paper]  arXiv 2203.13474, table of hyper-parameters in the appendix.
  [config] salesforce/jaxformer `config/codegen_{350M,2B,6B}_nl.json`, `codegen_350M_multi.json`.
  [hub]    the steps at which the released checkpoints were taken.
  [ours]   no published value: this project's choice.
Values in a row's `unverified` were not seen at their source by anyone here; whatever prints one
says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from codegen_pax import names
from codegen_pax.errors import InvalidValueError, UnknownNameError

THOUSAND = 1_000
RESULT = "humaneval_pass_at_1"


@dataclass(frozen=True)
class Phase:
    """One row of the table.

    A language phase needs `name`, `languages`, `start` and `tokens` alone; what else a row can
    say has a default: the code vocabulary, the mixture `codegen_<name>`, Mono's learning rates.

    Attributes:
      name: as in the experiment's name, `CodeGen<size><name>`.
      start: the phase whose weights it starts from; None for random weights.
      languages: keys of the language table whose files it reads; empty if the corpus is no
        collection of source files.
      tokens: to train on, for phases given by tokens; None for phases given by steps.
      steps: to train for, for phases given by steps; None for phases given by tokens.
      mixture: the seqio mixture of the real sizes; `codegen_<name in lower case>` if None.
      nano_mixture: the seqio mixture of Nano; `codegen_nano_<name in lower case>` if None.
      vocabulary: 'gpt2' (50,257 ids) or 'codegen' (50,295).
      learning_rate: the maximum, by size.
      learning_rate_end: the floor of the cosine where a source gives it; a tenth of the maximum
        elsewhere.
      warmup_steps: of linear warm-up.
      anneal_steps: jaxformer's cosine length where it is not `steps - warmup_steps`.
      batch_tokens: where the phase has its own, instead of the size's (see `recipes.py`).
      loss_on: 'all' tokens, or the 'answer' alone.
      packing: the documents of a row do not see each other; jaxformer's do.
      corpus_tokens: tokens in the corpus [paper]; None if not published.
      released_step: step of the released checkpoint by size [hub].
      humaneval_pass_at_1: published result by size, percent [paper].
      unverified: by size, which of the above were not seen at their source.
    """

    name: str
    start: str | None
    languages: tuple[str, ...] = ()
    tokens: int | None = None
    steps: int | None = None
    mixture: str | None = None
    nano_mixture: str | None = None
    vocabulary: str = "codegen"
    learning_rate: Mapping[str, float] = field(default_factory=lambda: CODE_LEARNING_RATE)
    learning_rate_end: Mapping[str, float] = field(default_factory=dict)
    warmup_steps: int = 3 * THOUSAND  # [paper] [config]
    anneal_steps: int | None = None
    batch_tokens: int | None = None
    loss_on: str = "all"
    packing: bool = False
    corpus_tokens: int | None = None
    released_step: Mapping[str, int] = field(default_factory=dict)
    humaneval_pass_at_1: Mapping[str, float] = field(default_factory=dict)
    unverified: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self):
        if not self.name.isidentifier() or not self.name[:1].isupper():
            raise InvalidValueError(
                f"phase name {self.name!r}: wanted an identifier that starts with a capital "
                "letter, as in 'Rust'"
            )
        if (self.tokens is None) == (self.steps is None):
            raise InvalidValueError(
                f"phase {self.name}: wanted exactly one of tokens and steps, found "
                f"tokens={self.tokens} and steps={self.steps}"
            )
        suffix = self.name.lower()
        if self.mixture is None:
            object.__setattr__(self, "mixture", f"codegen_{suffix}")
        if self.nano_mixture is None:
            object.__setattr__(self, "nano_mixture", f"codegen_nano_{suffix}")


# [config] for 350M, 2B and 6B; 16B [paper].
NL_LEARNING_RATE = MappingProxyType({"350M": 3.0e-4, "2B": 1.6e-4, "6B": 1.2e-4, "16B": 0.9e-4})
# [config] for 350M (Multi); the others [paper].
CODE_LEARNING_RATE = MappingProxyType({"350M": 1.8e-4, "2B": 0.8e-4, "6B": 0.4e-4, "16B": 0.5e-4})
# [ours]: a tenth of what the weights were last trained with, or less, as is usual for tuning.
INSTRUCT_LEARNING_RATE = MappingProxyType(
    {"350M": 2.0e-5, "2B": 1.0e-5, "6B": 0.5e-5, "16B": 0.5e-5}
)

PHASES: dict[str, Phase] = {
    phase.name: phase
    for phase in (
        Phase(
            "NL",
            start=None,
            mixture="codegen_pile",
            vocabulary="gpt2",
            steps=350 * THOUSAND,  # [config]; 16B [paper]
            anneal_steps=300 * THOUSAND,  # [config]: ends at step 303,000, then flat
            learning_rate=NL_LEARNING_RATE,
            corpus_tokens=354_700_000_000,  # [paper]
            released_step={"350M": 350_000, "2B": 350_000, "6B": 350_000},  # [hub]
            humaneval_pass_at_1={"350M": 2.12, "2B": 6.70, "6B": 10.43, "16B": 14.24},  # [paper]
            unverified={
                "350M": (RESULT,),
                "2B": (RESULT,),
                "6B": (RESULT,),
                "16B": ("learning_rate", "steps", RESULT),
            },
        ),
        Phase(
            "Multi",
            start="NL",
            languages=("python", "java", "javascript", "go", "cpp", "rust"),  # [ours]: Rust for C
            mixture="codegen_bigquery",
            steps=150 * THOUSAND,  # [config] for 350M; the others [paper]
            learning_rate_end={"350M": 3.0e-5},  # [config]: NL's floor, not a tenth of 1.8e-4
            corpus_tokens=119_200_000_000,  # [paper], the paper's six languages
            released_step={"350M": 150_000, "2B": 150_000, "6B": 100_000},  # [hub]
            humaneval_pass_at_1={"350M": 6.67, "2B": 14.51, "6B": 18.16, "16B": 18.32},  # [paper]
            unverified={
                "350M": (RESULT,),
                **dict.fromkeys(("2B", "6B", "16B"), ("learning_rate", "steps", RESULT)),
            },
        ),
        Phase(
            "Mono",
            start="Multi",
            languages=("python",),
            mixture="codegen_bigpython",
            steps=150 * THOUSAND,  # [paper]
            corpus_tokens=71_700_000_000,  # [paper]
            released_step={"350M": 150_000, "2B": 100_000, "6B": 140_000},  # [hub]
            humaneval_pass_at_1={"350M": 12.76, "2B": 23.70, "6B": 26.13, "16B": 29.28},  # [paper]
            unverified={
                "350M": ("steps",),
                **dict.fromkeys(("2B", "6B", "16B"), ("learning_rate", "steps")),
            },
        ),
        Phase(
            "Instruct",
            start="Mono",
            mixture="codegen_instruction",
            steps=3 * THOUSAND,  # [ours]
            warmup_steps=100,  # [ours]
            learning_rate=INSTRUCT_LEARNING_RATE,
            batch_tokens=128 * 2048,  # [ours]: 262,144 tokens
            loss_on="answer",
        ),
    )
}


def find_phase(name: str, phases: Mapping[str, Phase] = PHASES) -> Phase:
    """The row called `name`.

    Raises:
      KeyError: there is none; names the nearest.
    """
    if name not in phases:
        raise UnknownNameError(names.unknown("phase", name, phases))
    return phases[name]
