"""The training stream as Pax reads it: on any number of hosts, stopped and resumed anywhere."""

import json
import re

import numpy as np
import pytest
import seqio
from etils import epath
from paxml import checkpoints

from codegen_pax.data import seqio_sources
from codegen_pax.data.format import manifest
from codegen_pax.data.mixtures import MixtureByTokens
from codegen_pax.data.seqio_sources import PreparedCorpus, set_corpora_folder
from codegen_pax.data.stream import inputs, row_readers, training
from codegen_pax.data.stream.schedule import BLOCK, Schedule
from tasks import definition
from tests.data.prepared_corpora import write_corpus

T, B = 16, 4  # B rows of all hosts
GO, RUST = 37, 11  # rows
BY_TOKENS = {"stream_go": 771, "stream_rust": 229}  # 37 and 11 of 48 rows: 770.83 and 229.17
PARTS = {"go": {"train": GO, "validation": 5}, "rust": {"train": RUST, "validation": 5}}


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Records of each part; tasks, mixtures by rates and by tokens, and conversations over them."""
    set_corpora_folder(tmp_path)
    for language in PARTS:
        source = PreparedCorpus("streams", part=language, raw="a test's rows")
        definition.rows_task(f"stream_{language}", source)
    talks = PreparedCorpus("talks", answers=True, raw="a test's conversations")
    definition.conversation_task("stream_talks", talks)
    seqio.MixtureRegistry.add("stream_by_rate", [("stream_rust", 1.0), ("stream_go", 3.0)])
    seqio.MixtureRegistry.add("stream_by_tokens", list(BY_TOKENS), mixture_cls=MixtureByTokens)
    write_corpus(tmp_path / "talks", {"": {"train": 9}}, answers=True, seed=1)
    yield write_corpus(tmp_path / "streams", PARTS)
    for name in ("stream_by_rate", "stream_by_tokens"):
        seqio.MixtureRegistry.remove(name)
    for name in ("stream_go", "stream_rust", "stream_talks"):
        seqio.TaskRegistry.remove(name)


def start(mixture="stream_by_rate", hosts=1, batch=B, row_length=T, seed=3, **more):
    """The inputs of all hosts, as Pax makes them."""
    created = []
    for host in range(hosts):
        config = inputs.training_input(
            mixture, batch_size=batch // hosts, row_length=row_length, seed=seed, **more
        )
        config.set(num_infeed_hosts=hosts, infeed_host_index=host, input_checkpointing_enabled=True)
        created.append(config.Instantiate())
    return created


def read(running, steps):
    """Every field of some steps, the slices of the hosts together: [steps, B, T] each."""
    batches = [[one.get_next_padded() for one in running] for _ in range(steps)]
    return {
        name: np.stack([np.concatenate([part[name] for part in step]) for step in batches])
        for name in batches[0][0]
    }


def save(running, folder):
    """As `paxml.checkpoints.BaseInputCheckpointHandler` does in every process."""
    folder.mkdir()
    for host, one in enumerate(running):
        one.save(folder / f"process_{host}-of-{len(running)}")


def restore(running, folder):
    """Likewise; before it the trainer has peeked at a batch to learn its shapes."""
    for host, one in enumerate(running):
        one.peek_padded()
        one.restore(folder / f"process_{host}-of-{len(running)}")


def assert_same(actual, expected):
    assert set(actual) == set(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(actual[name], values, err_msg=name)


@pytest.mark.parametrize(
    ("mixture", "shares"),
    [
        ("stream_by_rate", {"stream_go": 750, "stream_rust": 250}),
        ("stream_by_tokens", BY_TOKENS),
        ("stream_rust", {"stream_rust": 1000}),
    ],
)
def test_a_batch_is_the_rows_of_its_positions(mixture, shares, written):
    sizes = {"stream_go": GO, "stream_rust": RUST}
    sizes = {name: sizes[name] for name in shares}
    plan = Schedule(sizes, shares, sizes, 3)  # each is less than a page
    parts = [name.removeprefix("stream_") for name in shares]
    tasks, rows = plan.rows(np.arange(1_200))
    expected = [
        written[parts[t]]["train"]["tokens"][row] for t, row in zip(tasks, rows, strict=True)
    ]
    actual = read(start(mixture, batch=100), 12)
    np.testing.assert_array_equal(actual["ids"].reshape(-1, T), expected)


def test_tokens_decide_how_often_a_language_is_read(written):
    rust = {row["tokens"].tobytes() for row in written["rust"]["train"]}
    ids = read(start("stream_by_tokens", batch=BLOCK), 1)["ids"][0]
    actual = sum(row.astype("<u2").tobytes() in rust for row in ids)
    assert actual == BY_TOKENS["stream_rust"]


@pytest.mark.parametrize(("name", "packing"), [("go", False), ("go", True), ("talks", False)])
def test_every_field_is_as_an_evaluation_of_the_same_rows_reads_it(name, packing, written):
    task = f"stream_{name}"
    config = inputs.evaluation_input(
        task, batch_size=1, row_length=T, split="train", packing=packing
    )
    created = config.Instantiate()
    count = {"go": GO, "talks": 9}[name]
    every = [created.get_next_padded() for _ in range(count)]
    with pytest.raises(StopIteration):
        created.get_next_padded()
    size = {task: len(every)}
    _, rows = Schedule(size, {task: BLOCK}, size, 3).rows(np.arange(2 * len(every)))
    actual = read(start(task, batch=len(every), packing=packing), 2)
    for field, values in actual.items():
        expected = np.concatenate([every[row][field] for row in rows])
        assert values.dtype == expected.dtype, field
        np.testing.assert_array_equal(values.reshape(-1, T), expected, err_msg=field)


@pytest.mark.parametrize("mixture", ["stream_by_rate", "stream_by_tokens", "stream_talks"])
@pytest.mark.parametrize("hosts", [2, 4])
def test_hosts_together_read_the_rows_of_one(hosts, mixture, written):
    together, alone = start(mixture, hosts), start(mixture)
    assert together[0].get_next_padded().ids.shape == (B // hosts, T)
    together[0].reset()
    assert_same(read(together, 30), read(alone, 30))


@pytest.mark.parametrize(
    ("before", "after"), [(1, 1), (2, 2), (4, 4), (1, 2), (2, 1), (1, 4), (4, 1), (2, 4), (4, 2)]
)
@pytest.mark.parametrize("steps", [0, 7])
def test_a_run_resumes_exactly_on_any_number_of_hosts(steps, before, after, written, tmp_path):
    running = start(hosts=before)
    for one in running:
        one.peek_padded()
    if steps:
        read(running, steps)
    save(running, tmp_path / "train_input")
    resumed = start(hosts=after)
    restore(resumed, tmp_path / "train_input")
    expected = {name: values[steps:] for name, values in read(start(), steps + 20).items()}
    assert_same(read(resumed, 20), expected)
    assert_same(read(running, 20), expected)  # what was saved goes on undisturbed


def test_a_run_resumes_at_its_row_when_the_batch_changes(written, tmp_path):
    running = start(batch=4)
    read(running, 5)
    save(running, tmp_path / "train_input")
    resumed = start(batch=6, hosts=3)
    restore(resumed, tmp_path / "train_input")
    ids = read(start(batch=1), 20 + 18)["ids"].reshape(-1, T)
    np.testing.assert_array_equal(read(resumed, 3)["ids"].reshape(-1, T), ids[20:])


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_peeked_batch_is_not_lost(hosts, written, tmp_path):
    running = start(hosts=hosts)
    read(running, 3)
    peeked = [one.peek_padded() for one in running]
    save(running, tmp_path / "train_input")
    resumed = start(hosts=hosts)
    restore(resumed, tmp_path / "train_input")
    for one, batch in zip(resumed, peeked, strict=True):
        np.testing.assert_array_equal(one.peek_padded().ids, batch.ids)
    expected = {name: values[3:] for name, values in read(start(), 8).items()}
    assert_same(read(resumed, 5), expected)
    assert_same(read(running, 5), expected)


def test_a_run_may_be_stopped_again_and_again(written, tmp_path):
    expected = read(start(), 25)
    for steps in range(0, 25, 5):
        running = start()
        if steps:
            restore(running, tmp_path / f"{steps}")
        actual = read(running, 5)
        assert_same(actual, {name: values[steps : steps + 5] for name, values in expected.items()})
        save(running, tmp_path / f"{steps + 5}")


def test_paxmls_own_handler_saves_and_restores_it(written, tmp_path):
    handler = checkpoints.BaseInputCheckpointHandler()
    (running,), (resumed,) = start(), start()
    read([running], 4)
    handler.save(epath.Path(tmp_path / "train_input"), running)
    handler.restore(epath.Path(tmp_path / "train_input"), resumed)
    assert_same(read([resumed], 3), read([running], 3))


def test_who_watches_saves_is_called_with_the_checkpoint(written, tmp_path, monkeypatch):
    handler, (running,) = checkpoints.BaseInputCheckpointHandler(), start()
    read([running], 1)
    saved = []
    monkeypatch.setattr(training, "on_save", [saved.append])
    checkpoint = epath.Path(tmp_path / "checkpoint_1.orbax-checkpoint-tmp-1")
    handler.save(checkpoint / "train_input", running)
    assert saved == [checkpoint] and len(list((checkpoint / "train_input").iterdir())) == 1


def test_reset_begins_with_the_first_row(written):
    running = start()
    first = read(running, 6)
    running[0].peek_padded()
    running[0].reset()
    assert_same(read(running, 6), first)


def test_seeds_give_other_orders(written):
    one, other = (read(start(seed=seed), 5)["ids"] for seed in (3, 4))
    assert (one != other).any()


def mixture_of(rates):
    seqio.MixtureRegistry.remove("stream_by_rate")
    seqio.MixtureRegistry.add("stream_by_rate", list(rates.items()))


def test_the_order_of_registration_does_not_matter(written):
    before = read(start(), 10)
    mixture_of({"stream_go": 3.0, "stream_rust": 1.0})
    assert_same(read(start(), 10), before)


def rewrite(tmp_path, monkeypatch, **changed):
    """Writes the corpora anew, into a folder of their own."""
    write_corpus(tmp_path / "anew" / "streams", **({"parts": PARTS} | changed))
    set_corpora_folder(tmp_path / "anew")


DIGEST = "[0-9a-f]{12}"


def other_data(tmp_path, monkeypatch):
    rewrite(tmp_path, monkeypatch, seed=9)
    data = f"data: then {DIGEST}, now {DIGEST}"
    return {}, f"tasks stream_go {data}; tasks stream_rust {data}"


def more_rows(tmp_path, monkeypatch):
    rewrite(tmp_path, monkeypatch, parts=PARTS | {"go": {"train": GO + 1, "validation": 5}})
    data = f"data: then {DIGEST}, now {DIGEST}"
    return {}, f"tasks stream_go rows: then 37, now 38; .*tasks stream_go {data}.*"


def other_length(tmp_path, monkeypatch):
    rewrite(tmp_path, monkeypatch, row_length=8)
    return {"row_length": 8}, "row_length: then 16, now 8; .*"


def other_shares(tmp_path, monkeypatch):
    mixture_of({"stream_go": 1.0, "stream_rust": 1.0})
    share = "tasks stream_{} share: then {}, now 500"
    return {}, f"{share.format('go', 750)}; {share.format('rust', 250)}"


def a_task_less(tmp_path, monkeypatch):
    mixture_of({"stream_go": 3.0})
    return (
        {},
        "tasks stream_go share: then 750, now 1000; tasks stream_rust: then {.*}, now nothing",
    )


def other_format(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "FORMAT", training.FORMAT + 1)
    return {}, f"format: then {training.FORMAT - 1}, now {training.FORMAT}"


def other_pages(tmp_path, monkeypatch):
    monkeypatch.setattr(row_readers, "PAGE_ROWS", 8)
    pages = "tasks stream_{} page_rows: then 4096, now 8"
    return {}, f"{pages.format('go')}; {pages.format('rust')}"


CHANGES = {
    "data": other_data,
    "rows": more_rows,
    "length": other_length,
    "shares": other_shares,
    "tasks": a_task_less,
    "format": other_format,
    "pages": other_pages,
    "seed": lambda *_: ({"seed": 4}, "seed: then 3, now 4"),
    "packing": lambda *_: ({"packing": True}, "packing: then False, now True"),
    "split": lambda *_: ({"split": "validation"}, "split: then train, now validation; .*"),
    "mixture": lambda *_: ({"mixture": "stream_go"}, "mixture: then stream_by_rate, now .*"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_data_is_named(change, written, tmp_path, monkeypatch):
    running = start()
    read(running, 2)
    save(running, tmp_path / "train_input")
    arguments, message = change(tmp_path, monkeypatch)
    with pytest.raises(training.ChangedDataError) as caught:
        restore(start(**arguments), tmp_path / "train_input")
    name = arguments.get("mixture", "stream_by_rate")
    full_message = (
        rf"{name} is not what the checkpoint was trained on: {message}\. Resume with the data.*"
    )
    assert re.fullmatch(full_message, str(caught.value), re.DOTALL), caught.value


@pytest.mark.parametrize(
    "state", [b"", b"\x0a\xff\x00", b"{", b"[]", b"7", b"null", b'{"position": 3}', b'{"it": 1}']
)
def test_an_invalid_state_is_refused(state, written, tmp_path):
    (tmp_path / "process_0-of-1").write_bytes(state)
    with pytest.raises(
        training.ChangedDataError,
        match="state of stream_by_rate_train is not of this kind of input",
    ):
        start()[0].restore(tmp_path / "process_0-of-1")


def test_a_state_with_an_identity_of_another_kind_is_refused(written, tmp_path):
    state = {"position": 3, "identity": "here"}
    (tmp_path / "process_0-of-1").write_text(json.dumps(state))
    with pytest.raises(training.ChangedDataError, match="then here, now"):
        start()[0].restore(tmp_path / "process_0-of-1")


def test_a_state_that_is_not_there_is_named(written, tmp_path):
    with pytest.raises(FileNotFoundError, match="process_0-of-1"):
        start()[0].restore(tmp_path / "process_0-of-1")


def test_a_state_is_small_whatever_the_data(written):
    (running,) = start()
    read([running], 3)
    assert len(running.get_state()) < 1_000


@pytest.mark.parametrize("mixture", ["stream_go", "stream_by_rate", "stream_by_tokens"])
def test_a_missing_corpus_is_named_when_it_is_read(mixture, written, tmp_path, monkeypatch):
    set_corpora_folder(tmp_path / "elsewhere")
    for ask in ("get_next_padded", "peek_padded", "get_state"):
        (created,) = start(mixture)  # Pax makes inputs that it never reads
        with pytest.raises(
            seqio_sources.CorpusMissingError,
            match=r"cannot read streams/go: .*codegen-pax prepare streams --input \.\.\. --output",
        ):
            getattr(created, ask)()


def test_a_damaged_row_stops_the_run_when_it_is_due(written, tmp_path):
    shard = tmp_path / "streams" / "rust" / "train-00001-of-00002.tfrecord"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1  # of row 6: the first shard has rows 0 to 5
    shard.write_bytes(bytes(content))
    size = {"stream_rust": RUST}
    _, rows = Schedule(size, {"stream_rust": BLOCK}, size, 3).rows(np.arange(RUST))
    due = rows.tolist().index(6)
    running = start("stream_rust", batch=1)
    if due:
        read(running, due)
    with pytest.raises(manifest.DamagedShardError, match=f"row 0 of {shard} is damaged"):
        read(running, 1)
