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
from dataclasses import dataclass, field, fields
from types import MappingProxyType

from codegen_pax import names
from codegen_pax.errors import InvalidValueError, UnknownNameError
from experiments import checks
from experiments.choices import LossOn, Vocabulary
from experiments.sizes import SIZES

THOUSAND = 1_000
RESULT = "humaneval_pass_at_1"
# Nano's steps and rates are in `nano.py`.
REAL_SIZES = tuple(size.name for size in SIZES.values() if not size.embedded)


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
      prompts: what its runs decode, to show what they have learnt: texts to continue, or
        instructions to answer; those of its languages if empty (see `tasks.prompts`).
      packing: the documents of a row do not see each other; jaxformer's do.
      corpus_tokens: tokens in the corpus [paper]; None if not published.
      released_step: step of the released checkpoint by size [hub].
      humaneval_pass_at_1: published result by size, percent [paper].
      unverified: by size, which of the above were not seen at their source.

    Raises ValueError for a value that is none of these.
    """

    name: str
    start: str | None
    languages: tuple[str, ...] = ()
    tokens: int | None = None
    steps: int | None = None
    mixture: str | None = None
    nano_mixture: str | None = None
    vocabulary: Vocabulary = Vocabulary.CODEGEN
    learning_rate: Mapping[str, float] = field(default_factory=lambda: CODE_LEARNING_RATE)
    learning_rate_end: Mapping[str, float] = field(default_factory=dict)
    warmup_steps: int = 3 * THOUSAND  # [paper] [config]
    anneal_steps: int | None = None
    batch_tokens: int | None = None
    loss_on: LossOn = LossOn.ALL
    prompts: tuple[str, ...] = ()
    packing: bool = False
    corpus_tokens: int | None = None
    released_step: Mapping[str, int] = field(default_factory=dict)
    humaneval_pass_at_1: Mapping[str, float] = field(default_factory=dict)
    unverified: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self):
        named = isinstance(self.name, str) and self.name.isidentifier()
        if not (named and self.name[0].isupper()):
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
            checks.store(self, "mixture", f"codegen_{suffix}")
        if self.nano_mixture is None:
            checks.store(self, "nano_mixture", f"codegen_nano_{suffix}")
        self._check_words()
        self._check_numbers()

    def _check_words(self) -> None:
        owner = f"phase {self.name}"
        if self.start is not None:
            checks.text(owner, "start", self.start)
        if self.start == self.name:
            raise InvalidValueError(f"{owner}: start={self.start!r} is itself; wanted another")
        checks.text(owner, "mixture", self.mixture)
        checks.text(owner, "nano_mixture", self.nano_mixture)
        languages = checks.several(owner, "languages", self.languages)
        found = tuple(checks.language(owner, "languages", one) for one in languages)
        if twice := [one for number, one in enumerate(found) if one in found[:number]]:
            raise InvalidValueError(f"{owner}: languages has {twice[0]} twice; wanted it once")
        checks.store(self, "languages", found)
        prompts = checks.several(owner, "prompts", self.prompts)
        found = tuple(checks.text(owner, "prompts", one) for one in prompts)
        checks.store(self, "prompts", found)
        for name, choices in (("vocabulary", Vocabulary), ("loss_on", LossOn)):
            checks.store(self, name, checks.choice(owner, name, getattr(self, name), choices))
        if checks.flag(owner, "packing", self.packing) and self.loss_on == LossOn.ANSWER:
            raise InvalidValueError(
                f"{owner}: packing=True and loss_on='answer'; wanted packing=False: a row of "
                "answers holds one example"
            )
        unverified = checks.by_size(owner, "unverified", self.unverified, REAL_SIZES, _field_names)
        checks.store(self, "unverified", unverified)

    def _check_numbers(self) -> None:
        owner = f"phase {self.name}"
        for name in ("tokens", "steps", "anneal_steps", "batch_tokens", "corpus_tokens"):
            if (value := getattr(self, name)) is not None:
                checks.store(self, name, checks.whole(owner, name, value))
        checks.store(self, "warmup_steps", checks.count(owner, "warmup_steps", self.warmup_steps))
        for name, check in (
            ("learning_rate", checks.rate),
            ("learning_rate_end", checks.number),
            ("released_step", checks.whole),
            ("humaneval_pass_at_1", checks.percent),
        ):
            table = checks.by_size(owner, name, getattr(self, name), REAL_SIZES, check)
            checks.store(self, name, table)
        if missing := [size for size in REAL_SIZES if size not in self.learning_rate]:
            raise InvalidValueError(
                f"{owner}: learning_rate has nothing for size {', '.join(missing)}; wanted a rate "
                "for each size"
            )
        for size, end in self.learning_rate_end.items():
            if end > self.learning_rate[size]:
                raise InvalidValueError(
                    f"{owner}: learning_rate_end[{size!r}]={end:g} is above "
                    f"learning_rate[{size!r}]={self.learning_rate[size]:g}"
                )


def _field_names(owner: str, name: str, value: object) -> tuple[str, ...]:
    """Names of fields of a phase."""
    known = [field.name for field in fields(Phase)]
    return tuple(
        checks.one_of(owner, name, one, known) for one in checks.several(owner, name, value)
    )


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
            vocabulary=Vocabulary.GPT2,
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
            loss_on=LossOn.ANSWER,
        ),
    )
}

# Phase -> the module that declared it, of those that are not this project's own.
MODULES: dict[str, str] = {}


def ancestors(phase: Phase, phases: Mapping[str, Phase] = PHASES) -> list[Phase]:
    """The phase it starts from, the one that starts from, and so on back to random weights.

    Raises:
      ValueError: one of them is in no row of the table, or they go round in a circle.
    """
    found: list[Phase] = []
    while (last := [phase, *found][-1]).start is not None:
        if last.start not in phases:
            said = names.unknown("phase", last.start, phases)
            raise InvalidValueError(f"phase {last.name}: start: {said}")
        found.append(phases[last.start])
        if found[-1].name in (phase.name, *(one.name for one in found[:-1])):
            line = " <- ".join(one.name for one in (phase, *found))
            raise InvalidValueError(
                f"phase {phase.name} starts in a circle, {line}; wanted one that starts from None"
            )
    return found


def find_phase(name: str, phases: Mapping[str, Phase] = PHASES) -> Phase:
    """The row called `name`.

    Raises:
      KeyError: there is none; names the nearest.
    """
    if name not in phases:
        raise UnknownNameError(names.unknown("phase", name, phases))
    return phases[name]
