"""The four phases on prepared corpora: the real sizes' data, through the stock binary."""

import numpy as np
import pytest

from codegen_pax.data.seqio_sources import set_corpora_folder
from codegen_pax.data.stream.inputs import training_input
from codegen_pax.runs import lineage, summary
from codegen_pax.text import tokenizer
from experiments import registry
from experiments.declaration import declarations
from experiments.experiment import SEED
from experiments.profiles import PUBLISHED
from tests.xla_flags import COMPILED_QUICKLY

pytestmark = pytest.mark.e2e

PHASES = ("NL", "Multi", "Mono", "Instruct")
CORPORA = {"NL": "pile", "Multi": "bigquery", "Mono": "bigpython", "Instruct": "instruction"}


@pytest.fixture(scope="module")
def jobs(pax, corpora, tmp_path_factory):
    """One job of each phase, each from the last one's weights.

    On one device, where JAX's cache can be used: a program for several that is read from it hangs,
    its devices waiting for one another.
    """
    folder, start = tmp_path_factory.mktemp("phases"), "scratch"
    actual = {}
    for phase in PHASES:
        job = actual[phase] = folder / phase
        pax.run(
            f"prepared_experiments.CodeGen350M{phase}",
            job,
            "--eval_on_test",
            CODEGEN_DATA=str(corpora),
            CODEGEN_START_FROM=str(start),
            CODEGEN_MESH="1x1x1",
            XLA_FLAGS=COMPILED_QUICKLY,
            JAX_COMPILATION_CACHE_DIR=str(folder / "compiled"),
        )
        start = job
    return actual


@pytest.mark.parametrize("phase", PHASES)
def test_each_phase_trains_and_is_evaluated(jobs, phase):
    losses = [scalar.value for scalar in summary.training_losses(jobs[phase])]
    assert len(losses) == 2 and all(0 < loss < np.log(51_200) + 1 for loss in losses)
    mixture = f"codegen_{CORPORA[phase]}"
    first, evaluated = summary.evaluation_losses(jobs[phase], mixture)
    assert (first.step, evaluated.step) == (0, 2) and 0 < evaluated.value < np.log(51_200) + 1
    message = lineage.read(jobs[phase])
    assert message["mixture"] == mixture
    assert all(origin["licences"] and origin["tokens"] for origin in message["data"])
    if phase != "NL":
        before = PHASES[PHASES.index(phase) - 1]
        (parent,) = message["parents"]
        assert parent["experiment"] == f"CodeGen350M{before}"
        assert parent["lineage"] == lineage.read(jobs[before])


@pytest.mark.parametrize(
    "declaration",
    [actual for actual in declarations() if actual.profile == PUBLISHED],
    ids=lambda actual: actual.name,
)
def test_every_real_size_reads_its_batch(corpora, declaration):
    """As the trainer gives it to one of 32 hosts, at the size it is declared with."""
    registry.register_all()
    set_corpora_folder(corpora)
    rows = declaration.batch_rows // 32
    config = training_input(declaration.mixture, batch_size=rows, row_length=2048, seed=SEED)
    config.set(num_infeed_hosts=32, infeed_host_index=31)
    batch = config.Instantiate().get_next_padded()
    assert batch.ids.shape == batch.weights.shape == (rows, 2048)
    if declaration.phase.loss_on == "answer":
        words = tokenizer.load("codegen")
        row = batch.labels[0][batch.weights[0] > 0]
        asked = batch.ids[0][: int((1 - batch.paddings[0]).sum())]
        assert 0 < len(row) < len(asked) and row[-1] == tokenizer.end_of_text_id("codegen")
        assert words.decode(asked.tolist()).startswith("### Instruction:\n")
    else:
        assert (batch.weights[:, :-1] == 1).all()
