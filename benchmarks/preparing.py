"""Tokens a second of `codegen-pax prepare` against tokenizers alone, and the memory it takes.

    python benchmarks/preparing.py [GIGABYTES ...]      (1 and 4, if none are given)

The text is Python's own and its packages' Python files, over and over, each copy under a first line
of its own, so that none is a duplicate; as `bigpython` in JSON lines. The peer is `tokenizers`
alone: as many processes, each with its share of the same text already in memory as strings, batches
as long as ours, nothing read and nothing written. Both sides are run in turn, the peer on the
smallest input only, since its speed has nothing to do with the size.

Memory is the sum of the proportional set sizes of the command and all its processes, looked at five
times a second; shared pages count once.

Expected: 0.85 of the peer (reading twice and hashing cost a tenth of the tokenising), and 1.5 GB at
any size: 64 MiB of text a worker and its tokens. The script fails where a target below is missed.
"""

import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from codegen_pax.data import installed
from codegen_pax.data.prepare.tokenise import BATCH_BYTES
from codegen_pax.data.rules import filters
from codegen_pax.text import tokenizer

WORKERS = 2
LEAST_OF_PEER = 0.8  # targets: of the peer's speed,
MOST_GROWTH = 1.2  # of the peak from the smallest input to the largest,
MOST_BYTES = 3 * 10**9  # and of the peak itself
FILE_BYTES = 256 << 20


def documents(size: int) -> Iterator[str]:
    """Documents of `size` bytes in all, none like another."""
    files = [file.path for file in installed.code("python")]
    texts = [path.read_text("utf-8", "replace") for path in files]
    texts = [text for text in texts if filters.rejection(text) is None]
    copy = written = 0
    while True:
        for number, text in enumerate(texts):
            yield (document := f"# copy {copy} of {number}\n{text}")
            written += len(document.encode())
            if written >= size:
                return
        copy += 1


def write_raw(folder: Path, size: int) -> None:
    """Writes `size` bytes of documents as JSON lines."""
    part = written = 0
    file = (folder / "0.jsonl").open("w")
    for number, text in enumerate(documents(size)):
        record = {
            "content": text,
            "path": f"{number}.py",
            "repo_name": f"owner/{number % 997}",
            "license": "mit",
        }
        written += file.write(json.dumps(record) + "\n")
        if written >= FILE_BYTES:
            file.close()
            part, written = part + 1, 0
            file = (folder / f"{part}.jsonl").open("w")
    file.close()


class Peak:
    """The most memory that this process's children take together, in bytes."""

    def __init__(self):
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _look(self):
        while not self._done.wait(0.2):
            total = 0
            for child in psutil.Process().children(recursive=True):
                try:
                    total += child.memory_full_info().pss
                except psutil.Error:  # it has ended meanwhile
                    continue
            self.bytes = max(self.bytes, total)


def ours(raw: Path, output: Path) -> tuple[int, float, int]:
    """(tokens, seconds, peak memory in bytes) of the command."""
    command = [sys.executable, "-m", "codegen_pax.cli.core.main", "prepare", "bigpython", "--json"]
    command += ["--input", str(raw), "--output", str(output), f"--workers={WORKERS}"]
    start = time.perf_counter()
    with Peak() as peak:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    seconds = time.perf_counter() - start
    (rows,) = json.loads(done.stdout)["rows"].values()
    return sum(split["tokens"] for split in rows.values()), seconds, peak.bytes


def _tokenise(index: int, size: int, ready, begin, results) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    words = tokenizer.load("codegen", literal=True)
    texts = [text for n, text in enumerate(documents(size)) if n % WORKERS == index]
    ready.release()
    begin.wait()
    tokens = waiting = 0
    batch: list[str] = []
    for number, text in enumerate(texts, 1):
        batch.append(text)
        waiting += len(text)
        if waiting >= BATCH_BYTES or number == len(texts):
            encoded = words.encode_batch_fast(batch, add_special_tokens=False)
            tokens += sum(len(one.ids) + 1 for one in encoded)  # and an end of text
            batch, waiting = [], 0
    results.put(tokens)


def peer(size: int) -> tuple[int, float]:
    """(tokens, seconds) of tokenizers alone on the same documents."""
    context = multiprocessing.get_context("spawn")
    ready, begin, results = context.Semaphore(0), context.Event(), context.Queue()
    processes = [
        context.Process(target=_tokenise, args=(index, size, ready, begin, results))
        for index in range(WORKERS)
    ]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    start = time.perf_counter()
    begin.set()
    tokens = sum(results.get() for _ in processes)
    seconds = time.perf_counter() - start
    for process in processes:
        process.join()
    return tokens, seconds


def main():
    sizes = [int(float(size) * 1e9) for size in sys.argv[1:]] or [10**9, 4 * 10**9]
    peaks = []
    for number, size in enumerate(sizes):
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "raw"
            raw.mkdir()
            write_raw(raw, size)
            tokens, seconds, peak = ours(raw, Path(folder) / "out")
        peaks.append(peak)
        print(
            f"{size / 1e9:.2f} GB: prepare {tokens:,} tokens in {seconds:.1f} s,"
            f" {tokens / seconds / 1e6:.3f} million/s, peak {peak / 1e9:.2f} GB",
            flush=True,
        )
        if number == 0:
            wanted, alone = peer(size)
            assert tokens == wanted, f"other tokens: prepare {tokens:,}, tokenizers {wanted:,}"
            reached = alone / seconds
            print(
                f"{size / 1e9:.2f} GB: tokenizers alone {wanted:,} tokens in {alone:.1f} s,"
                f" {wanted / alone / 1e6:.3f} million/s; prepare reaches {reached:.2f}",
                flush=True,
            )
    growth = max(peaks) / min(peaks)
    print(f"peak memory, largest / smallest: {growth:.2f}")
    if reached < LEAST_OF_PEER or growth > MOST_GROWTH or max(peaks) > MOST_BYTES:
        sys.exit(
            f"missed: wanted {LEAST_OF_PEER} of the peer, a growth of at most {MOST_GROWTH} and"
            f" {MOST_BYTES / 1e9:.0f} GB"
        )


if __name__ == "__main__":
    main()
