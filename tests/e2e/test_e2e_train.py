"""Train, stop, resume, evaluate and decode with the stock binary on a mesh of 8 devices."""

import json
import os
import signal
import time

import numpy as np
import pytest

from codegen_pax.runs import checkpoints, completions, lineage, summary, utilisation
from codegen_pax.runs.checkpoint_arrays import read_variables
from codegen_pax.text.vocabulary import vocabulary
from tasks.prompt_texts import PROSE

pytestmark = pytest.mark.e2e

EXPERIMENT = "short_experiments.ShortNL"
LAST = "checkpoint_00000020"


def flat(tree, prefix=""):
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


@pytest.fixture(scope="module")
def resumed(pax, tmp_path_factory):
    """A job that was killed after its checkpoint at step 10, then run to its end."""
    job = tmp_path_factory.mktemp("jobs") / "resumed"
    process = pax.start(EXPERIMENT, job)
    while not (job / "checkpoints" / "checkpoint_00000010").is_dir():
        assert process.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (job / "checkpoints" / LAST).exists()
    pax.run(EXPERIMENT, job)
    return job


def test_training_learns(whole):
    losses = [scalar.value for scalar in summary.training_losses(whole)]
    assert losses[-1] < np.log(2_048) - 1.5  # from the uniform distribution


def test_the_run_command_leaves_a_folder_to_look_at(whole):
    actual = json.loads((whole / "summary.json").read_text())
    first, evaluated = summary.evaluation_losses(whole, "codegen_nano_nl")
    assert actual["first_validation_loss"] == first.value
    assert actual["validation_loss"] == evaluated.value
    assert actual["steps"] == 20 and actual["tokens"] == 20 * 16 * 64
    assert actual["tokens_per_second"] > 0
    assert actual["model_flops_utilisation"] > actual["model_flops_utilisation_causal"] > 0
    assert 0 <= actual["input_wait_share"] < 1
    # No model of that order is better on these rows, and 51,200 ids bound them all.
    assert 0 < actual["bigram_entropy"] < actual["unigram_entropy"] < np.log(2_048)
    assert (whole / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    text = (whole / "completions.txt").read_text()
    assert all(prompt in text for prompt in PROSE)
    printed = (whole / "printed.txt").read_text()
    assert actual["experiment"] == "ShortNL" and "from random weights" in printed
    assert f"codegen-pax sample --module short_experiments {whole} '{PROSE[0]}'" in printed
    assert "step 20 of 20" in printed
    assert f"{evaluated.value:.3f} nats" in printed
    assert f"{actual['fitted_bigram']:.3f}" in printed


def reported(log) -> list[str]:
    """What a run has said of itself, without date and place."""
    lines = log.read_text().splitlines()
    return [line.partition("codegen-pax: ")[2] for line in lines if "codegen-pax: " in line]


def test_a_run_says_what_it_begins_with_and_how_it_goes(whole):
    """In a log that a person can read, and in what the command prints."""
    log = whole / "logs" / "train.log"
    evaluated = [scalar.value for scalar in summary.evaluation_losses(whole, "codegen_nano_nl")]
    assert len(log.read_text().splitlines()) < 120
    checked, wait, *opening = reported(log)[:10]
    assert checked.startswith("ShortNL is checked, and all is well: ")
    assert wait == "initialising the weights"
    assert [line for line in reported(log)[10:] if not line.startswith("step ")] == [
        "after step 0: evaluating on codegen_nano_nl_validation",
        f"after step 0: validation loss {evaluated[0]:.4f} on codegen_nano_nl_validation",
        "compiling the training step",
        "after step 20: evaluating on codegen_nano_nl_validation",
        f"after step 20: validation loss {evaluated[1]:.4f} on codegen_nano_nl_validation",
        "after step 20: decoding",
    ]
    assert [line.partition(": ")[0] for line in opening] == [
        "ShortNL",
        "weights",
        "data",
        "batch",
        "rate",
        "mesh",
        "steps between",
        "utilisation",
    ]
    assert "weights: random" in opening
    assert any(line.startswith("data: codegen_nano_nl from row 0 on: ") for line in opening)
    assert "batch: 16 rows of 64 tokens, as 2 micro-batches of 8" in opening
    assert "steps between: records 1, checkpoints 10, evaluations 20" in opening
    steps = [line for line in reported(log) if line.startswith("step ")]
    assert [line.partition(":")[0] for line in steps] == [f"step {n} of 20" for n in range(1, 21)]
    losses = [f"loss {scalar.value:.4f}" for scalar in summary.training_losses(whole)]
    assert all(loss in line for loss, line in zip(losses, steps, strict=True))
    # Two steps of warm-up to 4e-3; the cosine begins with the third.
    assert [line.split(", ")[1] for line in steps[:3]] == ["rate 0", "rate 0.002", "rate 0.004"]
    assert all("tokens/s" in line and " left" in line for line in steps[1:])
    assert opening[-1].startswith("utilisation: MFU is model FLOPs (")
    assert "with causal attention halved) of" in opening[-1]
    assert all("MFU " in line and "input wait " in line for line in steps[1:])
    printed = (whole / "printed.txt").read_text()
    assert steps[-1] in printed and opening[2] in printed
    assert "ShortNL: ShortNL" not in printed and "starting the Pax binary" in printed


def test_the_speed_of_every_step_but_the_first_is_in_the_events(whole):
    """The first record has none, as its time includes compilation."""
    speeds = {
        tag: {one.step: one.value for one in summary.read_scalars(whole / "summaries/train", tag)}
        for tag in (
            utilisation.TOKENS_PER_SECOND,
            utilisation.MFU,
            utilisation.CAUSAL_MFU,
            utilisation.INPUT_WAIT,
            utilisation.SECONDS_LEFT,
        )
    }
    assert all([*values] == [*range(2, 21)] for values in speeds.values())
    mfu, causal = speeds[utilisation.MFU], speeds[utilisation.CAUSAL_MFU]
    # 6 * (2 * 12 * 128^2 + 2,048 * 128) for the weights, 12 * 2 * 64 * 128 for the attention.
    whole_attention, halved = 3_932_160 + 196_608, 3_932_160 + 98_304
    for step, tokens in speeds[utilisation.TOKENS_PER_SECOND].items():
        assert causal[step] / mfu[step] == pytest.approx(halved / whole_attention, rel=1e-5)
        assert mfu[step] / tokens == pytest.approx(
            mfu[2] / speeds[utilisation.TOKENS_PER_SECOND][2]
        )
    assert all(0 <= value <= 1 for value in speeds[utilisation.INPUT_WAIT].values())
    assert speeds[utilisation.SECONDS_LEFT][20] == 0


def test_a_resumed_run_says_where_it_goes_on(resumed):
    lines = reported(resumed.with_name("resumed.log"))
    begun = [number for number, line in enumerate(lines) if line.startswith("weights: ")]
    again = lines[begun[1] :]
    assert again[0] == "weights: this run's own, of step 10; the optimizer's state too"
    assert again[1].startswith("data: codegen_nano_nl from row 160 on: ")
    steps = [line for line in again if line.startswith("step ")]
    assert steps[0].startswith("step 11 of 20: ") and "tokens/s" not in steps[0]
    assert len(steps) == 10


def test_sample_continues_a_prompt(pax, whole):
    """Greedy: as the stock binary decoded the same prompt, through other code."""
    prompt, length = PROSE[2], 20
    options = ("--temperature=0", f"--length={length}", "--module=short_experiments")
    printed = pax.command("sample", str(whole), prompt, *options)
    words = vocabulary("codegen_2048")
    (ids,) = [
        row["decoded_ids"][0]
        for row in completions.read_decoded(whole)
        if words.decode(row["prefix_ids"]) == prompt
    ]
    expected = words.decode([i for i in ids[:length] if i != words.eos_id])
    assert printed == f"{prompt}{expected}\n"


def test_sample_draws_as_many_as_asked(pax, whole):
    """So hot, and with the whole vocabulary, that no two draws are alike; by a relative path."""
    job = os.path.relpath(whole, pax.directory)
    module = "--module=short_experiments"
    options = ("--samples=3", "--length=16", "--temperature=3", "--top-p=1", module)
    printed = pax.command("sample", job, "x =", *options)
    samples = printed.split("--- sample ")[1:]
    assert [sample[:6] for sample in samples] == ["1 of 3", "2 of 3", "3 of 3"]
    assert len({sample[6:] for sample in samples}) == 3


def test_resumed_run_ends_with_the_same_weights(whole, resumed):
    """Bit for bit: the rows, the optimizer and the step go on where they were."""
    expected = dict(flat(read_variables(whole / "checkpoints" / LAST)))
    actual = dict(flat(read_variables(resumed / "checkpoints" / LAST)))
    assert actual.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array, err_msg=name)


def test_every_checkpoint_of_a_killed_job_has_its_lineage(whole, resumed):
    """The same as the job's, which is that of one that was not killed; no file is half written."""
    for job in (whole, resumed):
        kept = sorted((job / "checkpoints").iterdir())
        assert [checkpoints.step_of(path) for path in kept] == [0, 10, 20]
        assert all(lineage.read(path) == lineage.read(job) for path in kept)
        assert not list(job.rglob("*.unfinished"))
    assert lineage.read(whole) == lineage.read(resumed) and "resumed" not in lineage.read(whole)


def test_evaluated(whole):
    """Before the first step, to compare with, and after the last."""
    first, last = summary.evaluation_losses(whole, "codegen_nano_nl")
    assert (first.step, last.step) == (0, 20)
    assert first.value == pytest.approx(np.log(2_048), abs=0.5)
    assert 2 < last.value < first.value - 2


def test_decode_once_as_training_did(pax, whole, resumed):
    """The same weights continue the eight prompts the same way, in a process of its own."""
    pax.run(
        EXPERIMENT,
        resumed,
        "--mode=decode_once",
        "--eval_during_decode",
        "--nodecode_output_pickle",
    )
    rows = completions.read_decoded(resumed)
    words = vocabulary("codegen_2048")
    assert [words.decode(row["prefix_ids"]) for row in rows] == list(PROSE)
    assert all(row["decoded_ids"][0] for row in rows)
    assert [row["decoded_ids"] for row in rows] == [
        row["decoded_ids"] for row in completions.read_decoded(whole)
    ]
    (evaluated,) = summary.evaluation_losses(resumed, "codegen_nano_nl")
    _, trained = summary.evaluation_losses(whole, "codegen_nano_nl")
    assert evaluated.value == pytest.approx(trained.value, rel=1e-6)
