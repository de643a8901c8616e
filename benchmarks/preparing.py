"""Throughput and memory of `codegen-pax prepare`, compared with the tokenizers library alone.

    python benchmarks/preparing.py [GIGABYTES ...]      (default: 1 and 4)

The text is the Python files of Python and of its packages, repeated, each copy under a first line
of its own so that none is a duplicate; it is prepared as `bigpython` from JSON lines. The baseline
is `tokenizers` alone: as many processes, each with its share of the same text in memory as strings,
in batches of the same size, without reading or writing files. It runs on the smallest input only,
since its speed does not depend on the size.

Memory is the sum of the proportional set sizes of the command and all its processes, sampled five
times a second; shared pages count once.

Expected: 0.85 of the baseline's speed, as reading, storing and hashing cost a tenth of the
tokenising; and 1.5 GB at any size, as a worker holds 64 MiB of text and its tokens. The script
fails if a target is missed.
"""

import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import results
from codegen_pax.data import installed
from codegen_pax.data.prepare.tokenise import BATCH_BYTES
from codegen_pax.data.rules import filters
from codegen_pax.text import tokenizer

WORKERS = 2
MIN_RELATIVE_SPEED = 0.85  # target, as a fraction of the baseline's speed
MAX_GROWTH = 1.2  # target for the ratio of the largest peak memory to the smallest
MAX_PEAK_BYTES = 3 * 10**9  # target for the peak memory
FILE_BYTES = 256 << 20


def _texts() -> Iterator[tuple[str, int, str]]:
    """Yield (first line, number of a file, its text), again and again, no two of them equal."""
    files = [file.path for file in installed.code("python")]
    texts = [path.read_text("utf-8", "replace") for path in files]
    texts = [text for text in texts if filters.rejection(text) is None]
    for copy in itertools.count():
        for number, text in enumerate(texts):
            yield f"# copy {copy} of {number}\n", number, text


def documents(size: int) -> Iterator[str]:
    """Yield documents of `size` bytes in all, no two of them equal."""
    written = 0
    for first_line, _, text in _texts():
        yield (document := first_line + text)
        written += len(document.encode())
        if written >= size:
            return


def write_raw(folder: Path, sizes: Iterable[int]) -> Iterator[int]:
    """Write documents as JSON lines, until there are as many bytes of text as each size says.

    Args:
        folder: An existing folder.
        sizes: Bytes of text, ascending. Each begins a new file.

    Yields:
        Each size, when the folder holds that much.
    """
    sizes_left = iter(sizes)
    size = next(sizes_left)
    known: dict[int, tuple[str, int]] = {}  # file -> its text in JSON, and its bytes
    part = text_bytes = file_bytes = 0
    file = (folder / "0.jsonl").open("w")
    for number, (first_line, of_file, text) in enumerate(_texts()):
        if of_file not in known:
            known[of_file] = json.dumps(text)[1:-1], len(text.encode())
        content, num_bytes = known[of_file]
        file_bytes += file.write(
            f'{{"content": {json.dumps(first_line)[:-1]}{content}", "path": "{number}.py",'
            f' "repo_name": "owner/{number % 997}", "license": "mit"}}\n'
        )
        text_bytes += len(first_line) + num_bytes
        is_enough = text_bytes >= size
        if file_bytes >= FILE_BYTES or is_enough:
            file.close()
            if is_enough:
                yield size
                size = next(sizes_left, 0)
                if not size:
                    return
            part, file_bytes = part + 1, 0
            file = (folder / f"{part}.jsonl").open("w")


class PeakMemory:
    """Measures the most memory that this process's children take together, in bytes."""

    def __init__(self):
        self.bytes = 0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        self._thread.join()

    def _sample(self):
        while not self._done.wait(0.2):
            total = 0
            for child in psutil.Process().children(recursive=True):
                try:
                    total += child.memory_full_info().pss
                except psutil.Error:  # the process has ended
                    continue
            self.bytes = max(self.bytes, total)


def prepare(raw: Path, output: Path) -> tuple[int, float, int]:
    """Run the command; return (tokens, seconds, peak memory in bytes)."""
    command = [sys.executable, "-m", "codegen_pax.cli.core.main", "prepare", "bigpython", "--json"]
    command += ["--input", str(raw), "--output", str(output), f"--workers={WORKERS}"]
    start = time.perf_counter()
    with PeakMemory() as peak:
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
    seconds = time.perf_counter() - start
    (rows,) = json.loads(done.stdout)["rows"].values()
    return sum(split["tokens"] for split in rows.values()), seconds, peak.bytes


def _tokenise(index: int, size: int, ready, begin, results) -> None:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    bpe = tokenizer.load("codegen", literal=True)
    texts = [text for n, text in enumerate(documents(size)) if n % WORKERS == index]
    ready.release()
    begin.wait()
    tokens = waiting = 0
    batch: list[str] = []
    for number, text in enumerate(texts, 1):
        batch.append(text)
        waiting += len(text)
        if waiting >= BATCH_BYTES or number == len(texts):
            encoded = bpe.encode_batch_fast(batch, add_special_tokens=False)
            tokens += sum(len(one.ids) + 1 for one in encoded)  # plus an end of text
            batch, waiting = [], 0
    results.put(tokens)


def tokenise_alone(size: int) -> tuple[int, float]:
    """Run the baseline on the same documents; return (tokens, seconds)."""
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


def main() -> int:
    """Measure each size and check the targets; return the exit status."""
    sizes = [int(float(size) * 1e9) for size in sys.argv[1:]] or [10**9, 4 * 10**9]
    peaks, rows, targets = [], [], []
    for number, size in enumerate(sizes):
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder) / "raw"
            raw.mkdir()
            next(write_raw(raw, [size]))
            tokens, seconds, peak = prepare(raw, Path(folder) / "out")
        peaks.append(peak)
        row = {"GB of text": size / 1e9, "by": "prepare", "tokens": tokens}
        rows.append(row | {"million tokens/s": tokens / seconds / 1e6, "peak GB": peak / 1e9})
        if number == 0:
            expected, seconds_alone = tokenise_alone(size)
            assert tokens == expected, f"prepare made {tokens:,} tokens, tokenizers {expected:,}"
            speed = tokens / seconds_alone / 1e6
            rows.append(row | {"by": "tokenizers", "million tokens/s": speed, "peak GB": None})
            targets.append(
                results.Target(
                    f"{size / 1e9:.2f} GB: tokens/s, of tokenizers' alone",
                    seconds_alone / seconds,
                    least=MIN_RELATIVE_SPEED,
                )
            )
    growth, most = max(peaks) / min(peaks), MAX_PEAK_BYTES / 1e9
    targets.append(results.Target("peak GB", max(peaks) / 1e9, most=most))
    if len(sizes) > 1:
        targets.append(results.Target("peak, largest / smallest", growth, most=MAX_GROWTH))
    return results.report("preparing", rows, targets)


if __name__ == "__main__":
    sys.exit(main())
