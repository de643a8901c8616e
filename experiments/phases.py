"""The phases of CodeGen: one row per phase. Standard library only, so that listing is instant.

A phase is a corpus, a budget and the weights it starts from. Its learning rate, which depends on
the size too, is in `sizes.py`. Sources:
  [paper]  arXiv 2203.13474, table of hyper-parameters in the appendix.
  [config] salesforce/jaxformer `config/codegen_{350M,2B,6B}_nl.json`, `codegen_350M_multi.json`.
  [hub]    The steps at which the released checkpoints were taken.
  [ours]   No published value: this project's choice.
The values named in a row's `unverified` have not been checked at their source, and are marked so
wherever they are printed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any

from codegen_pax import messages
from codegen_pax.errors import InvalidValueError
from experiments import checks
from experiments.sizes import SIZES, Size, Vocabulary

THOUSAND = 1_000
NANO_MIXTURE = "codegen_nano_{name}"
RESULT = "humaneval_pass_at_1"


class LossOn(StrEnum):
    """Which tokens of a row are learnt."""

    ALL = "all"
    ANSWER = "answer"


@dataclass(frozen=True)
class Phase:
    """One row of the table.

    A language phase needs only `name`, `languages`, `start` and `tokens`. All other fields have
    defaults: the code vocabulary, the mixture `codegen_<name>`, Mono's learning rates.

    Attributes:
        name: The name in the experiment's name, `CodeGen<size><name>`.
        start: The phase whose weights it starts from; None for random weights.
        languages: The languages whose files are read, as keys of the language table; empty if the
            corpus is not a collection of source files.
        tokens: The number of tokens to train on; None for phases given by steps.
        steps: The number of steps to train for; None for phases given by tokens.
        mixture: The seqio mixture of the published sizes; {name} is the name in lower case.
        nano_mixture: The seqio mixture of Nano; `nano_mixture` names that of Micro.
        vocabulary: 'gpt2' (50,257 ids) or 'codegen' (50,295), for sizes without their own.
        rates: The phase whose learning rates are used, a key of `Size.learning_rate`.
        learning_rate: Maximum learning rates by size, if the phase has its own.
        learning_rate_end: Floors of the cosine by size, if the phase has its own.
        warmup_steps: Steps of linear warm-up.
        anneal_steps: jaxformer's cosine length, if it is not `steps - warmup_steps`.
        batch_tokens: Tokens per step, if the phase does not use the size's.
        loss_on: 'all' tokens, or the 'answer' alone.
        prompts: The texts to continue, or instructions to answer, that a run decodes to show what
            it has learnt; empty for the prompts of its languages (see `tasks.prompts`).
        packing: Whether attention is limited to tokens of the same document; in jaxformer it is
            not.
        corpus_tokens: Tokens in the corpus [paper]; None if not published.
        released_step: Step of the released checkpoint by size [hub].
        humaneval_pass_at_1: Published result by size, percent [paper].
        unverified: By size, the published values that were not seen at their source.

    Raises:
        ValueError: A value is invalid.
    """

    name: str
    start: str | None
    languages: tuple[str, ...] = ()
    tokens: int | None = None
    steps: int | None = None
    mixture: str = "codegen_{name}"
    nano_mixture: str = NANO_MIXTURE
    vocabulary: Vocabulary = Vocabulary.CODEGEN
    rates: str = "Mono"
    learning_rate: Mapping[str, float] = field(default_factory=dict)
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
        is_identifier = isinstance(self.name, str) and self.name.isidentifier()
        if not (is_identifier and self.name[0].isupper()):
            raise InvalidValueError(
                f"phase name {self.name!r}: expected an identifier that starts with a capital "
                "letter, as in 'Rust'"
            )
        if (self.tokens is None) == (self.steps is None):
            raise InvalidValueError(
                f"phase {self.name}: expected exactly one of tokens and steps, found "
                f"tokens={self.tokens} and steps={self.steps}"
            )
        self._check_words()
        self._check_numbers()

    def _check_words(self) -> None:
        owner = f"phase {self.name}"
        if self.start is not None:
            checks.text(owner, "start", self.start)
        if self.start == self.name:
            raise InvalidValueError(f"{owner}: start={self.start!r} is itself; expected another")
        checks.text(owner, "rates", self.rates)
        for name in ("mixture", "nano_mixture"):
            text = checks.text(owner, name, getattr(self, name))
            checks.store(self, name, text.replace("{name}", self.name.lower()))
        languages = checks.sequence(owner, "languages", self.languages)
        languages = tuple(checks.language(owner, "languages", one) for one in languages)
        if twice := [one for number, one in enumerate(languages) if one in languages[:number]]:
            raise InvalidValueError(f"{owner}: languages has {twice[0]} twice; expected it once")
        checks.store(self, "languages", languages)
        prompts = checks.sequence(owner, "prompts", self.prompts)
        checks.store(
            self, "prompts", tuple(checks.text(owner, "prompts", prompt) for prompt in prompts)
        )
        checks.store(
            self, "vocabulary", checks.choice(owner, "vocabulary", self.vocabulary, Vocabulary)
        )
        checks.store(self, "loss_on", checks.choice(owner, "loss_on", self.loss_on, LossOn))
        if checks.boolean(owner, "packing", self.packing) and self.loss_on == LossOn.ANSWER:
            raise InvalidValueError(
                f"{owner}: packing=True and loss_on='answer'; expected packing=False: a row of "
                "answers holds one example"
            )
        unverified = _by_size(owner, "unverified", self.unverified, _field_names)
        checks.store(self, "unverified", unverified)

    def _check_numbers(self) -> None:
        owner = f"phase {self.name}"
        for name in ("tokens", "steps", "anneal_steps", "batch_tokens", "corpus_tokens"):
            if (value := getattr(self, name)) is not None:
                checks.store(self, name, checks.integer(owner, name, value))
        checks.store(self, "warmup_steps", checks.count(owner, "warmup_steps", self.warmup_steps))
        for name, check in (
            ("learning_rate", checks.positive),
            ("learning_rate_end", checks.number),
            ("released_step", checks.integer),
            ("humaneval_pass_at_1", checks.percent),
        ):
            checks.store(self, name, _by_size(owner, name, getattr(self, name), check))
        missing = [size for size in published_sizes() if size not in self.learning_rate]
        if self.learning_rate and missing:
            raise InvalidValueError(
                f"{owner}: learning_rate has nothing for size {', '.join(missing)}; expected a "
                "rate for each size"
            )
        for size, end in self.learning_rate_end.items():
            rates = self.learning_rate or {size: SIZES[size].learning_rate.get(self.rates, end)}
            if end > rates[size]:
                raise InvalidValueError(
                    f"{owner}: learning_rate_end[{size!r}]={end:g} is above "
                    f"learning_rate[{size!r}]={rates[size]:g}"
                )


def published_sizes() -> list[str]:
    """Returns the names of the sizes that are run as the paper ran them, not on a laptop."""
    return [size.name for size in SIZES.values() if not size.profile.on_laptop]


def _by_size(owner: str, name: str, value: object, check: Callable[..., Any]) -> Mapping[str, Any]:
    return checks.table(owner, name, value, check, kind="size", keys=published_sizes())


def _field_names(owner: str, name: str, value: object) -> tuple[str, ...]:
    """Checks for names of fields of a phase."""
    known = [field.name for field in fields(Phase)]
    return tuple(
        checks.one_of(owner, name, one, known) for one in checks.sequence(owner, name, value)
    )


def nano_mixture(size: Size, phase: Phase) -> str:
    """Returns the mixture of text that every machine has, in the vocabulary of a size.

    `codegen_nano_mono` is Nano's. A size without a vocabulary of its own, as Micro, reads
    `codegen_nano_mono_codegen`. A mixture that a phase declares is that of every size.
    """
    default = NANO_MIXTURE.format(name=phase.name.lower())
    if size.vocabulary or phase.nano_mixture != default:
        return phase.nano_mixture
    return f"{phase.nano_mixture}_{phase.vocabulary}"


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
            rates="NL",
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
            rates="Multi",
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
            rates="Instruct",
            batch_tokens=128 * 2048,  # [ours]: 262,144 tokens
            loss_on=LossOn.ANSWER,
        ),
    )
}

# Phase -> the module that declared it, for phases declared outside this project.
MODULES: dict[str, str] = {}


def ancestors(phase: Phase, phases: Mapping[str, Phase] = PHASES) -> list[Phase]:
    """Returns the phase's start phase, that one's start phase, and so on to random weights.

    Raises:
        ValueError: One of them is not in the table, or they form a cycle.
    """
    chain = [phase]
    while (start := chain[-1].start) is not None:
        if start not in phases:
            message = messages.unknown("phase", start, phases)
            raise InvalidValueError(f"phase {chain[-1].name}: start: {message}")
        chain.append(phases[start])
        if start in (earlier.name for earlier in chain[:-1]):
            line = " <- ".join(one.name for one in chain)
            raise InvalidValueError(
                f"phase {phase.name} starts in a circle, {line}; expected one that starts from None"
            )
    return chain[1:]
