r"""Requests and bytes of `codegen-pax prepare` on object storage, and its speed there.

    python benchmarks/shuffling.py [GIGABYTES ...]      (default: 1, 4 and 16)
    python benchmarks/shuffling.py 1 --beam
    python benchmarks/shuffling.py 1 4 16 --remember-tokens

Inputs and output lie behind a URL whose file system is `counting`. The text is that of `preparing`,
as JSON lines in files of 256 MiB. With `--beam` the steps are run by Beam's portable runner in two
processes; else by two processes of the command, whose speed on the smallest input is compared with
that of `tokenizers` alone (`--no-speed` leaves that out).

From what was counted for each size follows what 1.2 TB would take; the assumptions are printed.

`--remember-tokens` puts `remembering` in the place of the tokenizer, which takes nine tenths of the
time: requests and bytes are the same, the speed is not that of `prepare`, and is not printed.

For a size it takes 2.4 times as much disk, in `TMPDIR`, and some 3 GB of memory. On two quiet cores
a gigabyte takes about five minutes, and `tokenizers` alone as long for the smallest input: two
hours for the default. With `--remember-tokens`, a gigabyte takes about one minute. The targets, of
each of which a miss fails the script: less than 4 bytes read and written for each byte of input,
less than one request a MiB, for the measured sizes and for 1.2 TB, and 0.85 of the speed of
`tokenizers` alone. Some 75 requests are made whatever the size, so that the requests of inputs
below a gigabyte are printed but have no target.

Measured with `--remember-tokens`: 2.698 bytes a byte and 0.846 requests a MiB at 1.04 GB, 2.698 and
0.848 with `--beam`, 3.077 and 0.857 at 4.16 GB, and 3.096 and 0.882 at 16.66 GB; for 1.2 TB it
gives 3.26 and 0.76.
"""

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import counting
import preparing

from codegen_pax.data.prepare import chunks as chunks_module
from codegen_pax.data.prepare import duplicates, settings, shuffle, work_files
from codegen_pax.data.rules import near_duplicates

MAX_BYTES = 4  # target for bytes read and written, as a multiple of the input's
MAX_REQUESTS = 1  # target for requests a MiB of input
MIN_RELATIVE_SPEED = 0.85  # target, as a fraction of the speed of tokenizers alone
EXTRAPOLATED = 1.2e12  # bytes of input
AHEAD = work_files.READ_AHEAD_BYTES
COMPARED = 1  # ranges that a document's MinHash is brought to, of `near_duplicates.BANDS`
ASSUMPTIONS = f"""\
Assumed for {EXTRAPOLATED / 1e9:,.0f} GB: the same documents, in files of the same size and in one
part, with the same share of duplicates; each byte is stored as small as here; segments are of their
mean size, and a read fetches blocks of {AHEAD >> 20} MiB; no step is tried twice. With near
duplicates, the MinHash of each document is compared in {COMPARED} range on average."""
DISK = 2.4  # bytes a byte of input: itself, chunks, runs of two levels, and shards
ON_BEAM = ["--runner=FnApiRunner", "--", "--direct_running_mode=multi_processing"]
ON_BEAM += [f"--direct_num_workers={preparing.WORKERS}"]


def prepare(folder: Path, options: list[str], modules: list[str]) -> tuple[float, int, int]:
    """Run the command on `raw` in the folder; return (seconds, peak memory, tokens)."""
    environment = counting.start(folder, *modules)
    command = [sys.executable, "-m", "codegen_pax.cli.core.main", "prepare", "bigpython", "--json"]
    command += ["--input", f"{counting.URL}/raw/*.jsonl*", "--output", f"{counting.URL}/out"]
    start = time.perf_counter()
    with preparing.PeakMemory() as peak:
        done = subprocess.run([*command, *options], env=environment, stdout=subprocess.PIPE)
    done.check_returncode()
    seconds = time.perf_counter() - start
    (rows,) = json.loads(done.stdout)["rows"].values()
    return seconds, peak.bytes, sum(split["tokens"] for split in rows.values())


def line_count(path: Path) -> int:
    """Return the number of lines of a file."""
    with path.open("rb") as file:
        return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))


def report(counted: dict[tuple[str, str], counting.Total], size: int) -> tuple[float, float]:
    """Print the requests by folder; return bytes a byte and requests a MiB of input."""
    print(f"{'folder':16}{'request':10}{'number':>10}{'MB':>12}{'mean, MB':>12}{'largest':>12}")
    for (place, what), total in sorted(counted.items()):
        mean = total.bytes / total.requests
        sizes = "".join(f"{number / 1e6:12.3f}" for number in (total.bytes, mean, total.largest))
        print(f"{place:16}{what:10}{total.requests:10,}{sizes}")
    moved = sum(total.bytes for total in counted.values()) / size
    requests = sum(total.requests for total in counted.values()) / (size / 2**20)
    return moved, requests


def whole(files: float, stored: float) -> tuple[float, float]:
    """Return the requests and bytes to read files of `stored` bytes in all."""
    return files * math.ceil(stored / files / AHEAD), stored


def segments(number: float, stored: float) -> tuple[float, float]:
    """Return those to read segments of files: what is read ahead of each is wasted."""
    each = math.ceil(stored / number / AHEAD)
    return number * each, number * max(each * AHEAD, stored / number)


def extrapolate(
    counted: dict[tuple[str, str], counting.Total],
    size: int,
    larger: float,
    documents: int,
    is_near: bool = False,
) -> tuple[float, float]:
    """Return bytes a byte and requests a MiB of an input of `larger` bytes.

    Args:
        counted: What was counted.
        size: Bytes of the input that it was counted for.
        larger: Bytes of another input, of the same documents in files of the same size.
        documents: Number of documents of the first input.
        is_near: Whether near duplicates are dropped.
    """
    chosen = settings.Settings("bigpython", "")
    growth = larger / size

    def written(folder: str) -> float:
        return growth * counted[folder, "write"].bytes

    buckets = chosen.num_buckets(int(larger))
    coarse = -(-buckets // settings.buckets_in_coarse(buckets))
    in_batch = chosen.chunks_in_batch(int(larger), {("", "train"): buckets})
    chunks = larger / chosen.bucket_bytes
    batches = chunks / in_batch
    documents_there = growth * documents
    groups = max(1, documents_there / duplicates.EXACT_DOCUMENTS)
    ranges = duplicates.num_ranges(int(larger))
    regions = max(1, batches / duplicates.BATCHES_IN_REGION)
    tokenised = runs_written = written("tokenised")
    digests = documents_there * chunks_module.DIGEST_BYTES
    reads = [
        whole(growth * counted["raw", "read"].requests, growth * counted["raw", "read"].bytes),
        whole(chunks, written("chunks")),
        segments(chunks, digests),
        segments(groups * ranges, written("sorted_digests")),
        segments(batches * (coarse + 1), tokenised),  # and one of validation
        whole(buckets, buckets * 4096),  # leftovers
    ]
    runs = batches
    if coarse < buckets:
        divisions = max(coarse, tokenised / (shuffle.DIVIDED_BUCKETS * chosen.bucket_bytes))
        reads.append(segments(divisions * buckets / coarse, tokenised))
        runs += divisions
        runs_written += tokenised
    files = chunks + groups + runs + ranges + regions + buckets  # the last are leftovers
    files_written = written("chunks") + written("sorted_digests") + runs_written
    if is_near:
        near_groups = max(1, documents_there / duplicates.NEAR_DOCUMENTS)
        pairs = near_groups * min(ranges, near_groups)
        signatures = documents_there * near_duplicates.SIGNATURE.itemsize
        bands = documents_there * near_duplicates.BANDS * duplicates.BAND.itemsize
        wanted = COMPARED * documents_there * duplicates.DOCUMENT.itemsize
        reads += [whole(chunks, written("chunks")), whole(2 * chunks, 2 * signatures)]
        reads += [segments(pairs, one) for one in (bands, wanted, COMPARED * signatures)]
        files += chunks + 2 * near_groups + 3 * ranges
        files_written += (1 + COMPARED) * signatures + bands + wanted
    shards = 2 * buckets  # with their lists of documents
    requests = sum(number for number, _ in reads)
    requests += files * 2 + shards * 3  # write, delete; write, copy, delete
    moved = sum(number for _, number in reads) + files_written + written("shards")
    return moved / larger, requests / (larger / 2**20)


def measure(
    folder: Path, size: int, options: list[str], modules: list[str]
) -> tuple[list[str], int, float]:
    """Prepare what is in a folder and print what it took.

    Args:
        folder: The folder, which holds the input.
        size: Bytes of text of the input.
        options: Options of the command.
        modules: Modules that take the place of parts of the program.

    Returns:
        (targets that were missed, tokens, seconds).
    """
    raw = folder / "raw"
    actual = sum(path.stat().st_size for path in raw.iterdir())
    documents = sum(line_count(path) for path in raw.iterdir())
    seconds, peak, tokens = prepare(folder, options, modules)
    counted = counting.totals(folder)
    moved, requests = report(counted, actual)
    how = ", text tokenised once" if modules else f", {tokens / seconds / 1e6:.3f} million tokens/s"
    print(
        f"{actual / 1e9:.2f} GB of input, {tokens:,} tokens{how}: {moved:.3f} bytes a byte,"
        f" {requests:.3f} requests a MiB; {seconds:.0f} s, peak {peak / 1e9:.2f} GB"
    )
    for larger, is_near in ((actual, False), (EXTRAPOLATED, False), (EXTRAPOLATED, True)):
        expected = extrapolate(counted, actual, larger, documents, is_near)
        print(
            f"the model for {larger / 1e9:,.1f} GB{' with near duplicates' * is_near}:"
            f" {expected[0]:.2f} bytes a byte, {expected[1]:.2f} requests a MiB",
            flush=True,
        )
    missed = []
    if expected[0] >= MAX_BYTES or expected[1] >= MAX_REQUESTS:
        missed.append(f"bytes or requests of the model for {EXTRAPOLATED / 1e12} TB")
    if moved >= MAX_BYTES or (requests >= MAX_REQUESTS and size >= 10**9):
        missed.append(f"bytes or requests at {size / 1e9:.2f} GB")
    return missed, tokens, seconds


def main() -> None:
    """Measure each size and check the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gigabytes", nargs="*", type=float, default=[1, 4, 16])
    parser.add_argument("--beam", action="store_true", help="run by Beam's portable runner")
    parser.add_argument("--no-speed", action="store_true", help="do not time tokenizers alone")
    parser.add_argument(
        "--remember-tokens", action="store_true", help="tokenise equal text once; no speed"
    )
    args = parser.parse_args()
    options = ON_BEAM if args.beam else [f"--workers={preparing.WORKERS}"]
    modules = ["remembering"] if args.remember_tokens else []
    sizes = sorted(int(gigabytes * 1e9) for gigabytes in args.gigabytes)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < DISK * sizes[-1]:
        sys.exit(f"{tempfile.gettempdir()} has {free:,} bytes; expected {int(DISK * sizes[-1]):,}")
    missed = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        raw = folder / "raw"
        raw.mkdir()
        for size in preparing.write_raw(raw, sizes):
            more, tokens, seconds = measure(folder, size, options, modules)
            missed += more
            shutil.rmtree(folder / "out")
            counting.forget(folder)
            if size > sizes[0] or args.no_speed or args.beam or args.remember_tokens:
                continue
            alone, seconds_alone = preparing.tokenise_alone(size)
            assert tokens == alone, f"prepare made {tokens:,} tokens, tokenizers {alone:,}"
            relative_speed = seconds_alone / seconds
            print(f"{size / 1e9:.2f} GB: {relative_speed:.2f} of the speed of tokenizers alone")
            if relative_speed < MIN_RELATIVE_SPEED:
                missed.append("speed")
    print(ASSUMPTIONS)
    if missed:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
