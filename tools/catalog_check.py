"""Check `keras-tagger catalog` on thousands of real files: its speed, its memory, and that it is exactly once.

    python tools/catalog_check.py --music /path/to/music --work /tmp/check
    python tools/catalog_check.py --work /tmp/check --checks ray,beam        (with the files that are there)

cuts the music (a folder, at any depth) into `--files` files of about `--seconds` each, without coding it anew, damages
one in a hundred of them, and runs the checks, each of which prints what it measured:

    plain    an undisturbed run: tracks per second, CPU time, memory over time; a second run does nothing
    bound    decoding and the model alone, one after the other in one process with one thread: the least CPU time
    tag      `keras-tagger tag` of a part of the files
    kill     three runs in which a process of the engine and then the driver are killed with SIGKILL, and continued
    ray      a cluster of two nodes on this machine, of which one is killed on the way
    beam     the multi-process runner
    index    `search` in a catalogue of `--rows` made rows: time of an answer, and recall at 10 against comparing all

All tables must equal the undisturbed one. The exit status is 1 if one does not. Not part of the package.
"""

from __future__ import annotations

import json
import math
import os
import random
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as parquet
from absl import app, flags

from keras_tagger.audio.paths import find_audio
from keras_tagger.catalog import Catalog, Options
from keras_tagger.catalog.driver import describe_model
from keras_tagger.catalog.index import normalized
from keras_tagger.catalog.store import TAG, Store, shards

ROOT = Path(__file__).parents[1]
FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("music", None, "A folder with music to cut; not needed if --work has the files.")
    flags.DEFINE_string("work", None, "Where files and catalogues are written.", required=True)
    flags.DEFINE_integer("files", 3000, "Number of files.", lower_bound=1)
    flags.DEFINE_float("seconds", 4.0, "Mean length of a file.", lower_bound=1.0)
    flags.DEFINE_string("model", "compact", "The model.")
    flags.DEFINE_float("listen", None, "Seconds that are listened to in each file; all by default.")
    flags.DEFINE_integer("cpus", len(os.sched_getaffinity(0)), "Processes.", lower_bound=1)
    flags.DEFINE_integer("rows", 1_000_000, "Rows of the check `index`.", lower_bound=1)
    flags.DEFINE_integer("trials", 3, "Runs of the check `kill`.", lower_bound=1)
    flags.DEFINE_list("checks", ["plain", "bound", "tag", "kill"], "What to check.")


def cut(music: str, folder: Path, count: int, seconds: float) -> None:
    """Cut music into files of half to one and a half times the length, without coding it anew."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    for path in find_audio(music):
        with av.open(path) as container:
            if not container.streams.audio:
                continue
            stream = container.streams.audio[0]
            stop, begun, output = -math.inf, 0, None
            for packet in container.demux(stream):
                if packet.pts is None:
                    continue
                if packet.pts * stream.time_base >= stop:
                    if output is not None:
                        output.close()
                    if number >= count:
                        return
                    stop = float(packet.pts * stream.time_base) + rng.uniform(0.5, 1.5) * seconds
                    output = av.open(folder / f"{number:06d}{path[path.rindex('.') :]}", "w")
                    copied, begun, number = output.add_stream_from_template(stream), packet.pts, number + 1
                packet.pts -= begun
                packet.dts = packet.pts
                packet.stream = copied
                output.mux(packet)
            if output is not None:
                output.close()
    raise SystemExit(f"expected music for {count} files. Received: {music!r}, enough for {number}.")


def damage(folder: Path) -> None:
    """Damage every hundredth file in one of four ways."""
    for number, path in enumerate(sorted(folder.iterdir())[50::100]):
        content = path.read_bytes()
        path.write_bytes((content[: len(content) // 3], b"", b"no audio " * 99, os.urandom(9999))[number % 4])


def command(out: Path, *more: str, engine: str = "local") -> list[str]:
    """Return the command line that makes a catalogue of the files."""
    more = (*more, *(["--seconds", str(FLAGS.listen)] if FLAGS.listen else []))
    return [
        *(sys.executable, "-m", "keras_tagger", "catalog", str(Path(FLAGS.work) / "files"), "--out", str(out)),
        *("--model", FLAGS.model, "--cpus", str(FLAGS.cpus), "--engine", engine, "--shard_rows", "500", *more),
    ]


def start(words: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a command, its output in a file."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    with log.open("ab") as file:
        return subprocess.Popen(words, stdout=file, stderr=file, env=environment, start_new_session=True)


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text() if Path(f"/proc/{pid}").exists() else ""
    return [int(word) for word in text.split()]


def memory(pids: Sequence[int]) -> int:
    """Return the memory that processes hold together, in bytes: what they share is counted once."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    return total


def described(out: Path) -> int:
    """Return about how many rows a catalogue that is being made has."""
    import pyarrow as pa

    count = sum(parquet.read_metadata(shard).num_rows for shard in shards(out))
    try:
        with pa.OSFile(str(out / ".pending.arrows")) as file:
            for batch in pa.ipc.open_stream(file):
                count += len(batch)
    except (OSError, pa.ArrowInvalid):
        pass
    return count


def wait_for(process: subprocess.Popen[bytes], out: Path, share: float) -> bool:
    """Wait until a share of the files has rows; return whether the process still runs."""
    while process.poll() is None:
        if described(out) >= share * FLAGS.files:
            return True
        time.sleep(0.2)
    return False


def contents(out: Path) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Return the rows and the errors of a catalogue by path; a path with two rows is an error."""
    table = Catalog(out).table().to_pylist()
    rows = {row["path"]: row for row in table}
    errors = dict(Catalog(out).errors())
    if len(rows) != len(table) or rows.keys() & errors.keys():
        raise SystemExit(
            f"{out}: {len(table)} rows of {len(rows)} files, {len(rows.keys() & errors.keys())} also errors"
        )
    return rows, errors


def compare(out: Path, plain: Path) -> bool:
    """Print and return whether two catalogues are equal."""
    (rows, errors), (wanted, wanted_errors) = contents(out), contents(plain)
    same_files = rows.keys() == wanted.keys() and errors == wanted_errors
    different = [path for path in rows.keys() & wanted.keys() if rows[path] != wanted[path]]
    farthest = max(
        (
            abs(rows[path][name] - wanted[path][name])
            for path in different
            for name in rows[path]
            if name.startswith("tag:")
        ),
        default=0.0,
    )
    print(
        f"  {out.name}: {len(rows)} rows, {len(errors)} errors, no file twice; the same files: {same_files}; "
        f"rows that differ: {len(different)} (scores by at most {farthest:.2g})",
        flush=True,
    )
    return same_files and farthest < 2e-3


def check_plain(work: Path) -> bool:
    """Make the undisturbed catalogue, and measure."""
    out = work / "plain"
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = start(command(out), work / "plain.log")
    samples: list[tuple[float, int]] = []

    def sample() -> None:
        while process.poll() is None:
            samples.append((time.monotonic() - begun, memory([process.pid, *children(process.pid)])))
            time.sleep(5.0)

    thread = threading.Thread(target=sample)
    thread.start()
    process.wait()
    thread.join()
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows, errors = contents(out)
    seconds = sum(row["seconds"] for row in rows.values())
    print(f"plain: {len(rows)} tracks ({seconds / 3600:.2f} h), {len(errors)} errors in {wall:.0f} s")
    print(f"  CPU {cpu:.0f} s, {1000 * cpu / len(rows):.0f} ms a track; {len(rows) / wall:.1f} tracks a second")
    places = [samples[int(share * (len(samples) - 1))][1] / 2**20 for share in (0.25, 0.5, 0.75, 1.0)]
    print(f"  memory at a quarter, half, three quarters and the end: {', '.join(f'{x:.0f}' for x in places)} MiB")
    size = sum(path.stat().st_size for path in shards(out))
    print(f"  {size / len(rows):.0f} bytes a row on disk", flush=True)
    stamps = [(path, path.stat().st_mtime_ns) for path in shards(out)]
    start(command(out), work / "plain.log").wait()
    again = [(path, path.stat().st_mtime_ns) for path in shards(out)] == stamps
    print(f"  a second run leaves all shards alone: {again}", flush=True)
    return again and len(rows) + len(errors) == FLAGS.files


def check_bound(work: Path) -> bool:
    """Measure decoding and the model alone, with one thread, in a process of their own."""
    code = """
import sys, time, json, glob
from keras_tagger.catalog.worker import one_thread_each
one_thread_each()
import numpy as np, keras_tagger as kt
tagger = kt.load(sys.argv[2]); model = tagger.model
files = sorted(glob.glob(sys.argv[1] + "/*"))[::10]
def run(waveforms): return {k: v.numpy() for k, v in model.analyze(waveforms, ("tags", "embedding")).items()}
run(np.zeros((1, model.window_samples), np.float32))
windows, n = [], 0
c = time.process_time()
for path in files:
    try: windows += list(model.windowing.cut(path, warnings=[])); n += 1
    except kt.KerasTaggerError: pass
decode = time.process_time() - c
c = time.process_time()
for window in windows: run(window.waveform[None])
print(json.dumps([n, decode, time.process_time() - c]))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    words = [sys.executable, "-c", code, str(work / "files"), FLAGS.model]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    n, decode, model = json.loads(done.stdout.splitlines()[-1])
    print(f"bound: decode {1000 * decode / n:.1f} ms, model {1000 * model / n:.1f} ms a track (CPU)", flush=True)
    return True


def check_tag(work: Path) -> bool:
    """Measure `keras-tagger tag` on a tenth of the files."""
    files = sorted(map(str, (work / "files").glob("*")))[::10]
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    words = [sys.executable, "-m", "keras_tagger", "tag", *files, "--model", FLAGS.model, "--json"]
    start(words, work / "tag.log").wait()
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(
        f"tag: {len(files)} files in {wall:.0f} s, CPU {cpu:.0f} s, {1000 * cpu / len(files):.0f} ms a file", flush=True
    )
    return True


def check_kill(work: Path) -> bool:
    """Kill a process of the engine, and then the driver, and continue."""
    same = True
    for trial in range(FLAGS.trials):
        rng, out = random.Random(trial), work / f"killed{trial}"
        process = start(command(out), work / f"killed{trial}.log")
        said = []
        if wait_for(process, out, rng.uniform(0.1, 0.3)):
            victim = rng.choice(children(process.pid))
            os.kill(victim, signal.SIGKILL)
            said.append(f"a process killed at {described(out)} rows")
        if wait_for(process, out, rng.uniform(0.5, 0.8)):
            process.kill()
            process.wait()
            said.append(f"the driver killed at {described(out)} rows")
        start(command(out), work / f"killed{trial}.log").wait()
        print(f"kill {trial}: {', '.join(said)}, and continued", flush=True)
        same &= compare(out, work / "plain") and len(said) == 2
    return same


def check_ray(work: Path) -> bool:
    """Describe the files on a cluster of two nodes, one of which is killed on the way."""
    from ray.cluster_utils import Cluster

    out = work / "ray"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    begun = time.monotonic()
    process = start(command(out, "--address", cluster.address, engine="ray"), work / "ray.log")
    said = ""
    if wait_for(process, out, 0.4):
        cluster.remove_node(node, allow_graceful=False)
        said = f"a node killed at {described(out)} rows, "
        cluster.add_node(num_cpus=1)
    process.wait()
    print(f"ray: {said}finished in {time.monotonic() - begun:.0f} s", flush=True)
    cluster.shutdown()
    return compare(out, work / "plain") and bool(said)


def check_beam(work: Path) -> bool:
    """Describe the files on Beam's multi-process runner."""
    out = work / "beam"
    begun = time.monotonic()
    options = [
        "--engine_option=direct_running_mode=multi_processing",
        f"--engine_option=direct_num_workers={FLAGS.cpus}",
    ]
    start(command(out, *options, engine="beam"), work / "beam.log").wait()
    print(f"beam: finished in {time.monotonic() - begun:.0f} s", flush=True)
    return compare(out, work / "plain")


def check_index(work: Path) -> bool:
    """Search in made rows: embeddings in 2,000 groups, as those of music are."""
    import pyarrow as pa

    out, width, rng = work / f"made{FLAGS.rows}", 192, np.random.default_rng(0)
    about = describe_model(FLAGS.model, Options())
    centres = rng.normal(0, 1, (2000, width)).astype(np.float32)
    with Store(out, about):
        pass
    for start in range(0, FLAGS.rows, 100_000) if not shards(out) else []:
        count = min(100_000, FLAGS.rows - start)
        vectors = centres[rng.integers(0, len(centres), count)] + 0.7 * rng.normal(0, 1, (count, width))
        names = [f"music/{start + place:08d}.mp3" for place in range(count)]
        columns: dict[str, Any] = {"path": names, "size": np.ones(count, int), "mtime_ns": np.ones(count, int)}
        columns["seconds"] = np.full(count, 200, np.float32)
        columns |= {f"{TAG}{tag}": rng.beta(0.3, 3, count).astype(np.float16) for tag in about.tags}
        columns["present"] = pa.array([["guitar"]] * count)
        flat = pa.array(vectors.astype(np.float16).ravel())
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, width)
        parquet.write_table(pa.table(columns), out / "tracks" / f"part-{start:08d}.parquet", compression="zstd")
    catalog = Catalog(out)
    everything = normalized(catalog.embeddings())
    queries = everything[rng.integers(0, len(everything), 200)] + rng.normal(0, 0.02, (200, width)).astype(np.float32)
    begun = time.process_time()
    catalog.like(queries[0])
    print(f"index: {len(catalog)} rows, made or opened in {time.process_time() - begun:.1f} s of CPU", flush=True)
    times, found = [], 0
    for query in queries:
        begun = time.perf_counter()
        numbers, _ = catalog.like(query)
        times.append(time.perf_counter() - begun)
        found += len(set(numbers.tolist()) & set(np.argpartition(-(everything @ query), 10)[:10].tolist()))
    begun = time.perf_counter()
    matching = len(catalog.select("guitar>0.5 & !rock"))
    tags = time.perf_counter() - begun
    recall = found / (10 * len(queries))
    middle, worst = 1000 * np.median(times), 1000 * np.quantile(times, 0.95)
    print(f"  an answer takes {middle:.1f} ms (95 %: {worst:.1f} ms); recall at 10: {recall:.4f}")
    print(f"  a query by tags takes {1000 * tags:.0f} ms ({matching} rows)", flush=True)
    return recall >= 0.99 and middle < 50


CHECKS: dict[str, Callable[[Path], bool]] = {
    "plain": check_plain,
    "bound": check_bound,
    "tag": check_tag,
    "kill": check_kill,
    "ray": check_ray,
    "beam": check_beam,
    "index": check_index,
}


def main(argv: Sequence[str]) -> int:
    """Cut the files if there are none, and run the checks."""
    work = Path(FLAGS.work)
    if FLAGS.music:
        cut(FLAGS.music, work / "files", FLAGS.files, FLAGS.seconds)
        damage(work / "files")
    if FLAGS.checks != ["index"] and not (work / "files").is_dir():
        raise SystemExit("expected --music, or --work with the files of an earlier run.")
    failed = [name for name in FLAGS.checks if not CHECKS[name](work)]
    print(f"failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    define_flags()
    app.run(main)
