"""What may change when a job goes on, what is refused by name, and the schedule that it keeps."""

import dataclasses

import pytest
from etils import epath
from praxis import pax_fiddle
from praxis.layers import activations

import codegen
from codegen_pax.runs import checkpoints, lineage
from experiments import job_receipt, resume
from experiments.settings import Schedule, Settings
from experiments.start import Run

BLOCK = "task.model.lm_tpl.stacked_transformer_tpl.block.transformer_layer_params_tpl"
OPTIMIZER = "task.train.learner.optimizer"


@pytest.fixture(scope="module")
def begun():
    """The lineage of CodeGenMicroMono as it is declared."""
    return job_receipt.document(
        codegen.CodeGenMicroMono(), "codegen.CodeGenMicroMono", [], "training", []
    )


@pytest.fixture
def job(tmp_path, begun):
    """A job of it, with a checkpoint of step 40 of 180."""
    folder = tmp_path / "job"
    for path in (folder, checkpoints.path(folder, 40)):
        lineage.write(path, begun)
    return epath.Path(folder)


def resumed(job, cls=codegen.CodeGenMicroMono, schedule=None):
    """An experiment as the stock binary makes it to go on in a job."""
    run = Run(job, step=checkpoints.last_step(job), trains=True)
    return cls(Settings(schedule=schedule), run)


def variant(task=None, datasets=None, **declared):
    """The class CodeGenMicroMono, changed; `task` and `datasets` change what it makes."""

    def changed(name, change):
        def method(self):
            made = getattr(super(cls, self), name)()
            change(made)
            return made

        return method

    declaration = dataclasses.replace(codegen.CodeGenMicroMono.DECLARATION, **declared)
    body = {"DECLARATION": declaration, "__module__": "mine"}
    for name, change in (("task", task), ("datasets", datasets)):
        if change:
            body[name] = changed(name, change)
    cls = type("CodeGenMicroMono", (codegen.CodeGenMicroMono,), body)
    return cls


def size(**changes):
    return dataclasses.replace(codegen.CodeGenMicroMono.DECLARATION.size, **changes)


def setting(path, value):
    """A function that sets what lies at a path below a configuration."""

    def change(config):
        *above, last = path.split(".")
        for name in above:
            config = config[int(name)] if name.isdecimal() else getattr(config, name)
        setattr(config, last, value)

    return change


def layers(task):
    return task.model.lm_tpl.stacked_transformer_tpl.block.transformer_layer_params_tpl


def relu(task):
    layers(task).tr_fflayer_tpl.activation_tpl = pax_fiddle.Config(activations.ReLU)


@pytest.mark.parametrize(
    ("changed", "output"),
    [
        ({"learning_rate": 1e-3}, f"{OPTIMIZER}.learning_rate was 0.005, is 0.001 ("),
        # Below the floor that the receipt has.
        ({"learning_rate": 1e-4}, f"{OPTIMIZER}.learning_rate was 0.005, is 0.0001 ("),
        ({"warmup_steps": 9}, f"{OPTIMIZER}.lr_schedule.warmup_steps was 20, is 9"),
        ({"batch_rows": 8}, "datasets[0].batch_size was 4, is 8"),
        ({"size": size(layers=3)}, "stacked_transformer_tpl.x_times was 2, is 3"),
        ({"size": size(context=128)}, "datasets[0].row_length was 256, is 128"),
        ({"task": setting("train.random_seed", 1)}, "train.random_seed was 220313474, is 1"),
        ({"task": setting("train.learner.optimizer.beta2", 0.95)}, "beta2 was 0.999, is 0.95"),
        # The default of a library, which no receipt has.
        (
            {"task": setting("train.learner.skip_step_gradient_norm_value", 2.0)},
            "task.train.learner.skip_step_gradient_norm_value was not set, is 2.0",
        ),
        (
            {"task": relu},
            f"{BLOCK}.tr_fflayer_tpl.activation_tpl was praxis.layers.activations.GELU, is "
            "praxis.layers.activations.ReLU",
        ),
        ({"task": setting("model.fprop_dtype", "bfloat16")}, "fprop_dtype was "),
        ({"datasets": setting("0.seed", 7)}, "datasets[0].seed was 220313474, is 7"),
        ({"datasets": setting("0.packing", True)}, "datasets[0].packing was False, is True"),
        (
            {"datasets": setting("0.mixture_name", "codegen_nano_nl")},
            "datasets[0].mixture_name was 'codegen_nano_mono_codegen', is 'codegen_nano_nl'",
        ),
        ({"task": setting("train.enable_input_checkpointing", False)}, "checkpointing was True"),
    ],
    ids=lambda value: value.rpartition(".")[2][:40] if isinstance(value, str) else "",
)
def test_what_changes_the_weights_or_the_order_of_the_data_is_refused_by_name(changed, output, job):
    before = lineage.read(job)
    with pytest.raises(ValueError) as error:
        job_receipt.keep(job, resumed(job, variant(**changed)))
    message = str(error.value)
    assert output in message and "\n" not in message
    assert message.startswith(f"{job} was trained otherwise than CodeGenMicroMono is now: ")
    assert ("CODEGEN_SCHEDULE" in message) == any(name in output for name in ("rate", "lr_sch"))
    assert lineage.read(job) == before


def evaluates(datasets):
    datasets[1].mixture_name = "codegen_nano_nl"
    datasets[1].eval_loop_num_batches = 3


def decodes(task):
    task.model.decoder_tpl.max_decode_steps = 7
    task.decode.profiler_num_steps = 3


@pytest.mark.parametrize(
    ("changed", "names"),
    [
        ({}, set()),
        ({"steps": 200}, {"steps"}),
        ({"task": setting("train.save_interval_steps", 7)}, {"task.train.save_interval_steps"}),
        ({"task": setting("train.eval_interval_steps", 7)}, {"task.train.eval_interval_steps"}),
        ({"task": setting("train.save_max_to_keep", 9)}, {"task.train.save_max_to_keep"}),
        ({"task": setting("train.profiler_num_steps", 9)}, {"task.train.profiler_num_steps"}),
        (
            {"task": setting("train.learner.var_norm_summary", True)},
            {"task.train.learner.var_norm_summary"},
        ),
        (
            {"micro_batch_rows": 2},
            {
                "task.train.learner.stochastic_gradient",
                "task.train.learner.stochastic_gradient.accumulation_steps",
                "task.train.learner.stochastic_gradient.accumulation_dtype",
                "evaluation.datasets[1].batch_size",
            },
        ),
        (
            {"size": size(remat="save_nothing")},
            {"task.model.lm_tpl.stacked_transformer_tpl.checkpoint_policy"},
        ),
        (
            {"size": size(attention="chunked", loss_chunk=64)},
            {
                "task.model.lm_tpl.stacked_transformer_tpl.block.transformer_layer_params_tpl."
                "tr_atten_tpl.kind",
                "task.model.lm_tpl.softmax_tpl.token_chunk",
            },
        ),
        (
            {"task": setting("model.lm_tpl.softmax_tpl.chunk_size", 64)},
            {"task.model.lm_tpl.softmax_tpl.chunk_size"},
        ),
        (
            {"datasets": evaluates},
            {
                "evaluation.datasets[1].mixture_name",
                "evaluation.datasets[1].eval_loop_num_batches",
            },
        ),
        (
            {"task": decodes},
            {"task.model.decoder_tpl.max_decode_steps", "task.decode.profiler_num_steps"},
        ),
    ],
    ids=lambda value: min(value, default="nothing") if isinstance(value, set) else "",
)
def test_what_may_change_is_noted_with_its_step(changed, names, job, begun):
    job_receipt.keep(job, resumed(job, variant(**changed)))
    actual = lineage.read(job)
    (noted,) = actual["history"]  # its module is another too, which is not in a file
    assert noted["step"] == 40
    found_names = {change["name"] for change in noted["changes"]}
    # How often Nano saves follows from its steps.
    follows = {name for name in found_names if changed.keys() == {"steps"} and "interval" in name}
    assert found_names - follows == names | {"class"}
    assert actual["steps"] == changed.get("steps", 180)
    assert lineage.of_checkpoint(job, 40) == begun


def test_the_same_batch_on_more_hosts(job, monkeypatch):
    """Each reads half of the rows; twice the rows on one are refused (above)."""
    monkeypatch.setattr("jax.process_count", lambda: 2)
    job_receipt.keep(job, resumed(job))
    (noted,) = lineage.read(job)["history"]
    assert {"name": "hosts", "old": 1, "new": 2} in noted["changes"]
    assert not [change for change in noted["changes"] if "batch_size" in change["name"]]


def older(document, hosts=1):
    """A lineage as commit 6363f38 wrote it, of so many hosts."""
    output = {
        name: document[name] for name in document if name not in ("hosts", "declared", "code")
    }
    rows = 4 // hosts
    return output | {
        "snapshot": [
            line.replace(".batch_size = 4", f".batch_size = {rows}") for line in output["snapshot"]
        ]
    }


@pytest.mark.parametrize("hosts", [1, 2])
def test_an_older_receipt_says_less_and_is_gone_on_from(hosts, job, begun):
    for folder in (job, checkpoints.path(job, 40)):
        lineage.write(folder, older(begun, hosts))
    with pytest.raises(ValueError, match=r"datasets\[0\]\.batch_size was 4, is 8"):
        job_receipt.keep(job, resumed(job, variant(batch_rows=8)))
    job_receipt.keep(job, resumed(job))
    actual = lineage.read(job)
    (noted,) = actual["history"]
    assert [change["old"] for change in noted["changes"] if "code of" in change["name"]] == [None]
    assert {"hosts", "declared", "code"} <= actual.keys()


def test_modules_that_were_renamed_lock_nobody_out(job, begun):
    moved = [
        line.replace("codegen_pax.", "codegen.library.").replace("praxis.layers.", "praxis.")
        for line in begun["snapshot"]
    ]
    assert moved != begun["snapshot"]
    lineage.write(checkpoints.path(job, 40), begun | {"snapshot": moved, "class": "x.y.Mono"})
    job_receipt.keep(job, resumed(job))
    (noted,) = lineage.read(job)["history"]
    assert noted["changes"] == [
        {"name": "class", "old": "x.y.Mono", "new": "codegen.CodeGenMicroMono"}
    ]


def test_what_a_version_has_added_at_its_default_and_what_is_set_no_more(job, begun):
    """An argument of ours that is new; one of a library that was set to what it is by itself."""
    added = [line for line in begun["snapshot"] if ".optimizer.decay = " not in line]
    separator = "task.train.learner.repeat_prefix_sep"
    default = f"{OPTIMIZER}.bias_correction_on"  # no argument of anything
    for lines, refused in (
        ([line for line in begun["snapshot"] if "packing" not in line], None),
        ([*begun["snapshot"], f"{separator} = '#'"], None),
        ([*begun["snapshot"], f"{separator} = '$'"], f"{separator} was '$', is '#'"),
        ([*begun["snapshot"], f"{default} = 1"], f"{default} was 1, is not set"),
        (added, f"{OPTIMIZER}.decay was not set, is 'stacked_rank'"),
    ):
        lineage.write(checkpoints.path(job, 40), begun | {"snapshot": lines})
        if refused is None:
            job_receipt.keep(job, resumed(job))
            continue
        with pytest.raises(ValueError) as error:
            job_receipt.keep(job, resumed(job))
        assert refused in str(error.value)


def test_fewer_steps_than_were_trained(job):
    job_receipt.keep(job, resumed(job, variant(steps=40)))
    assert "history" not in lineage.read(job)  # nothing is left to train: nothing has changed
    with pytest.raises(ValueError, match=r"is at step 40, and CodeGenMicroMono ends at step 39; "):
        job_receipt.keep(job, resumed(job, variant(steps=39)))


def test_weights_that_were_imported_bind_the_network_alone(job, begun):
    for folder in (job, checkpoints.path(job, 40)):
        lineage.write(folder, begun | {"kind": "import"})
    weights = checkpoints.path(job, 40) / "state" / f"{checkpoints.WEIGHT_PREFIX}w"
    weights.mkdir(parents=True)
    (weights / "0").write_bytes(b"0")
    with pytest.raises(ValueError, match=r"x_times was 2, is 3"):
        job_receipt.keep(job, resumed(job, variant(size=size(layers=3))))
    job_receipt.keep(job, resumed(job, variant(learning_rate=1e-3, batch_rows=8, steps=7)))
    actual = lineage.read(job)
    assert (actual["kind"], actual["steps"], actual["parents"][0]["step"]) == ("training", 7, 40)
    assert "history" not in actual


def rates(experiment):
    return [getattr(experiment.declaration(), name) for name in resume.SCHEDULE]


def test_more_steps_leave_the_schedule_as_the_receipt_has_it(job, begun):
    expected = [20, 160, 5e-3, 5e-4]
    assert rates(resumed(job, variant(steps=1_000))) == expected
    lineage.write(checkpoints.path(job, 40), older(begun))
    assert rates(resumed(job, variant(steps=1_000))) == pytest.approx(expected)
    job_receipt.keep(job, resumed(job, variant(steps=1_000)))
    assert lineage.read(job)["declared"]["anneal_steps"] == 160


def test_another_schedule_is_refused_unless_it_is_asked_for(job):
    another = variant(steps=1_000, learning_rate=1e-3, warmup_steps=30, anneal_steps=400)
    with pytest.raises(ValueError, match=r"learning_rate was 0\.005, is 0\.001") as error:
        job_receipt.keep(job, resumed(job, another))
    assert "warmup_steps was 20, is 30" in str(error.value)
    experiment = resumed(job, another, Schedule.RECEIPT)
    assert rates(experiment) == [20, 160, 5e-3, 5e-4]
    job_receipt.keep(job, experiment)
    kept = lineage.read(job)
    assert not [one for one in kept["history"][0]["changes"] if OPTIMIZER in one["name"]]
    lineage.write(checkpoints.path(job, 50), kept)
    experiment = resumed(job, another, Schedule.DECLARED)
    assert rates(experiment)[:3] == [30, 400, 1e-3]
    job_receipt.keep(job, experiment)
    noted = {
        change["name"]: (change["old"], change["new"])
        for change in lineage.read(job)["history"][1]["changes"]
    }
    assert noted[f"{OPTIMIZER}.learning_rate"] == ("0.005", "0.001")
    assert noted[f"{OPTIMIZER}.lr_schedule.decay_end"] == ("180", "430")
    lineage.write(checkpoints.path(job, 60), lineage.read(job))
    job_receipt.keep(job, resumed(job, another))  # from here on it is the job's
    assert len(lineage.read(job)["history"]) == 2
