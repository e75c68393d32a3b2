"""Measure speed and memory of keras_tagger and musicnn 0.1.0 on the same clips, in one run.

    python tools/benchmark.py

writes docs/benchmarks.md, which says what is compared. The clips are those in the package, repeated to 30 s and written
as mp3. musicnn is the one of `keras_tagger.teachers.musicnn`: the published weights in a Keras model, with a librosa
front-end and consecutive patches of 3 s. Run it on an idle machine; it takes about 15 minutes on two cores.

Each measurement runs in a process of its own (--task). `taskset` binds the process to its cores, and the numbers of
threads are set to match before any library is loaded. Linux only. Not part of the package.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from absl import app, flags

from keras_tagger.errors import KerasTaggerError
from keras_tagger.progress import progress_bar

ROOT = Path(__file__).parents[1]
RATE = 16000
CLIP_SECONDS, CLIP_RATE = 30, 44100
CLIP_COUNTS = (1, 16)
STAGES = ("load", "spectrogram", "model", "file to tags", "file to taggram")
BATCHES = {"musicnn": (1, 2, 5, 10, 20, 40), "keras_tagger": (1, 2, 4, 8, 16)}
SYSTEMS = tuple(BATCHES)
THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"),
)
OTHER_PROGRAMS = "\n## Tagging many files on all cores\n"
PACKAGES = ("keras_tagger", "tensorflow", "keras", "numpy", "librosa", "soundfile", "soxr")

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags, except when a test imports this module."""
    flags.DEFINE_string(
        "model", "compact", "keras_tagger's model: a pretrained name, a run directory or a .keras file."
    )
    flags.DEFINE_integer("repeats", 15, "Number of timings of each stage.", lower_bound=2)
    flags.DEFINE_integer(
        "process_repeats", 5, "Number of processes for each peak memory and each cold start.", lower_bound=2
    )
    flags.DEFINE_string("out", str(ROOT / "docs" / "benchmarks.md"), "The page to write.")
    flags.DEFINE_string("json", None, "File for all measurements; none if empty.")
    flags.DEFINE_string("work_dir", "data/teacher", "Folder of musicnn's wheel; pip downloads it if it is missing.")
    flags.DEFINE_string("task", None, "Used by the program itself: one measurement as JSON; the result goes to stdout.")


def main(argv: Sequence[str]) -> None:
    """Measure everything and write the page."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        if FLAGS.task:
            print(json.dumps(run_task(json.loads(FLAGS.task))))
            return
        from keras_tagger.files import replacing

        measured = measure(FLAGS.model, FLAGS.repeats, FLAGS.process_repeats, FLAGS.work_dir)
        settings = {name: FLAGS[name].value for name in ("model", "repeats", "process_repeats") if FLAGS[name].present}
        text = page(measured, command_line(settings)) + kept_sections(Path(FLAGS.out))
        for path, content in ((FLAGS.out, text), (FLAGS.json, json.dumps(measured, indent=1) + "\n")):
            if path:
                Path(path).parent.mkdir(parents=True, exist_ok=True)
                with replacing(Path(path)) as temporary:
                    temporary.write_text(content, "utf-8")
    except (KerasTaggerError, OSError, BenchmarkError) as error:
        sys.exit(f"error: {error}")
    print(text)


def kept_sections(path: Path) -> str:
    """Return what a page has of other programs, behind what this one writes."""
    before = path.read_text("utf-8") if path.exists() else ""
    return before[before.index(OTHER_PROGRAMS) :] if OTHER_PROGRAMS in before else ""


def command_line(settings: dict[str, Any]) -> str:
    """Return the command that the page shows, with the name of the model instead of its path."""
    values = {name: Path(value).name if name == "model" else value for name, value in settings.items()}
    return shlex.join(["python", "tools/benchmark.py", *(f"--{name}={value}" for name, value in values.items())])


class BenchmarkError(Exception):
    """A measurement that failed."""


# --- the two systems ---------------------------------------------------------------------------------------------


class System(Protocol):
    """A tagger as separate stages. A piece is what the model sees at a time: a patch or a window."""

    def load(self, path: Path) -> np.ndarray:
        """Decode a file to mono at 16 kHz, float32 [samples]."""

    def spectrograms(self, waveforms: Sequence[np.ndarray]) -> Any:
        """Compute the spectrograms of clips in the form that the model expects."""

    def pieces(self, spectrograms: Any) -> Any:
        """Stack the pieces of all clips, a tensor [pieces, frames, mels]; not timed."""

    def model(self, pieces: Any, batch: int) -> np.ndarray:
        """Compute probabilities [pieces, tags] in batches of `batch` pieces."""

    def scores(self, paths: Sequence[Path], batch: int) -> np.ndarray:
        """Compute the tag probabilities of files, [clips, tags]."""

    def taggram(self, path: Path, batch: int) -> np.ndarray:
        """Compute the tag probabilities of a file every 3 s, [tags, times]."""


class Musicnn:
    """musicnn as its users run it, with the weights of a `keras_tagger.teachers.musicnn.Musicnn`.

    `librosa.load` decodes and resamples (with soxr HQ, its default), librosa computes the mel spectrogram in musicnn's
    scaling, and one traced function runs the model including the sigmoid.
    """

    def __init__(self, network: Any) -> None:
        import tensorflow as tf

        from keras_tagger.teachers.musicnn import N_MELS, PATCH_FRAMES

        self.network = network
        self._patch_frames = PATCH_FRAMES
        signature = [tf.TensorSpec([None, PATCH_FRAMES, N_MELS], tf.float32)]
        self._run = tf.function(
            lambda patches: tf.sigmoid(network.model(patches, training=False)), input_signature=signature
        )

    def load(self, path: Path) -> np.ndarray:
        """Decode with librosa, as musicnn does."""
        import librosa

        return librosa.load(path, sr=RATE)[0]

    def spectrograms(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Compute spectrograms of whole clips, [frames, mels] each."""
        import librosa

        options = {"n_fft": 512, "hop_length": 256, "n_mels": 96, "pad_mode": "reflect"}
        mels = [librosa.feature.melspectrogram(y=waveform, sr=RATE, **options) for waveform in waveforms]
        # musicnn rounds to half precision.
        return [np.log10(10000.0 * mel.T.astype(np.float16).astype(np.float32) + 1.0) for mel in mels]

    def pieces(self, spectrograms: list[np.ndarray]) -> Any:
        """Cut consecutive patches of 187 frames; an incomplete patch at the end is dropped."""
        import tensorflow as tf

        size = self._patch_frames
        whole = [frames[: len(frames) // size * size] for frames in spectrograms]
        return tf.constant(np.concatenate([frames.reshape(-1, size, frames.shape[1]) for frames in whole]))

    def model(self, pieces: Any, batch: int) -> np.ndarray:
        """Run the model on patches."""
        return np.concatenate([self._run(part).numpy() for part in _batches(pieces, batch)])

    def scores(self, paths: Sequence[Path], batch: int) -> np.ndarray:
        """Average over the patches of each clip; the clips have the same length and share batches."""
        found = self.model(self.pieces(self.spectrograms([self.load(path) for path in paths])), batch)
        return found.reshape(len(paths), -1, found.shape[1]).mean(axis=1)

    def taggram(self, path: Path, batch: int) -> np.ndarray:
        """Do the same work as `scores`."""
        return self.model(self.pieces(self.spectrograms([self.load(path)])), batch).T


class KerasTagger:
    """A `keras_tagger.Tagger` with its own decoder and the windows of `Tagger.tag`."""

    def __init__(self, tagger: Any) -> None:
        import tensorflow as tf

        self.tagger = tagger
        model = tagger.model
        self._spectrogram = model.analyzer(("spectrogram",))

        def tags(spectrogram: tf.Tensor) -> tf.Tensor:
            tokens = model.class_token(model.front_end(spectrogram, training=False))
            tokens = tokens if model.positions is None else model.positions(tokens)
            return tf.sigmoid(model.head(model.encoder(tokens, training=False), training=False))

        self._run = tf.function(
            tags, input_signature=[tf.TensorSpec([None, None, model.model_config.spectrogram.n_mels], tf.float32)]
        )

    def load(self, path: Path) -> np.ndarray:
        """Decode with keras_tagger."""
        from keras_tagger import audio

        return audio.load(path, RATE)

    def windows(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Cut the windows of each clip, [windows, samples]."""
        model = self.tagger.model
        return [np.stack([w.waveform for w in model.windowing.cut((clip, RATE))]) for clip in waveforms]

    def spectrograms(self, waveforms: Sequence[np.ndarray]) -> list[Any]:
        """Compute spectrograms of the windows of each clip, [windows, frames, mels] each."""
        return [self._spectrogram(windows)["spectrogram"] for windows in self.windows(waveforms)]

    def pieces(self, spectrograms: list[Any]) -> Any:
        """Concatenate the windows of all clips."""
        import tensorflow as tf

        return tf.concat(spectrograms, axis=0)

    def model(self, pieces: Any, batch: int) -> np.ndarray:
        """Run the model from the front-end on."""
        return np.concatenate([self._run(part).numpy() for part in _batches(pieces, batch)])

    def scores(self, paths: Sequence[Path], batch: int) -> np.ndarray:
        """Call `Tagger.tag_files`, as the command line does; it chooses the batch itself."""
        found = [tags.to_dict() for _, tags in self.tagger.tag_files(paths, top=None)]
        return np.array([[scores[tag] for tag in self.tagger.tags] for scores in found])

    def taggram(self, path: Path, batch: int) -> np.ndarray:
        """Call `Tagger.taggram`, which chooses the batch itself."""
        return self.tagger.taggram(path).values


def _batches(pieces: Any, batch: int) -> Iterator[Any]:
    return (pieces[start : start + batch] for start in range(0, len(pieces), batch))


def open_system(name: str, model: str, work_dir: str) -> System:
    """Load a system."""
    if name == "keras_tagger":
        from keras_tagger import load

        return KerasTagger(load(model))
    from keras_tagger.teachers.musicnn import find_wheel, load_musicnn

    return Musicnn(load_musicnn(find_wheel(work_dir)))


# --- measurements in processes of their own ----------------------------------------------------------------------


def run_task(task: dict[str, Any]) -> Any:
    """Carry out one measurement; `task["measure"]` is "speed" or "memory"."""
    paths = [Path(path) for path in task["clips"]]
    if task["measure"] == "memory":
        if task["system"]:
            open_system(task["system"], task["model"], task["work_dir"]).scores(paths, task["batch"])
        else:
            import tensorflow  # noqa: F401
        # In KiB on Linux. A process inherits the peak of its parent, so the parent must not load TensorFlow.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    systems = {name: open_system(name, task["model"], task["work_dir"]) for name in SYSTEMS}
    return measure_speed(systems, paths, task["counts"], task["repeats"])


def measure_speed(
    systems: dict[str, System], paths: Sequence[Path], counts: Sequence[int], repeats: int
) -> dict[str, Any]:
    """Time every stage of both systems, which alternate within each repeat.

    Args:
        systems: Both systems by name.
        paths: Clips of the same length; repeat i starts with the i-th and wraps around.
        counts: Numbers of clips to process at a time.
        repeats: Number of timings of each stage, after one warm-up.

    Returns:
        `seconds` [count][stage][system], `repeats` numbers each, for all clips together; `batches` [count][system], the
        fastest number of pieces per call; `pieces` [system], the number of pieces of a clip.
    """
    pieces = {name: len(system.pieces(_spectrograms(system, paths[:1]))) for name, system in systems.items()}
    seconds: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for count in counts:
        batches = {
            name: fastest_batch(system, paths[: min(count, 4)], BATCHES[name]) for name, system in systems.items()
        }
        chosen[str(count)] = batches
        stages = [stage for stage in STAGES if stage != "file to taggram" or count == 1]
        times = {stage: {name: [] for name in systems} for stage in stages}
        for repeat in progress_bar(range(-1, repeats), desc=f"{count} clip(s)", unit="repeat", leave=False):
            clips = [paths[(repeat + index) % len(paths)] for index in range(count)]
            order = list(systems.items())[:: 1 if repeat % 2 else -1]
            calls = {name: _stage_calls(system, clips, batches[name]) for name, system in order}
            for stage in stages:
                for name in calls:
                    took = _timed(calls[name][stage])
                    if repeat >= 0:
                        times[stage][name].append(took)
        seconds[str(count)] = times
    return {"seconds": seconds, "batches": chosen, "pieces": pieces}


def _spectrograms(system: System, paths: Sequence[Path]) -> Any:
    return system.spectrograms([system.load(path) for path in paths])


def _stage_calls(system: System, paths: Sequence[Path], batch: int) -> dict[str, Callable[[], Any]]:
    """Return each stage as a function whose inputs are ready."""
    waveforms = [system.load(path) for path in paths]
    pieces = system.pieces(system.spectrograms(waveforms))
    return {
        "load": lambda: [system.load(path) for path in paths],
        "spectrogram": lambda: system.spectrograms(waveforms),
        "model": lambda: system.model(pieces, batch),
        "file to tags": lambda: system.scores(paths, batch),
        "file to taggram": lambda: system.taggram(paths[0], batch),
    }


def fastest_batch(system: System, paths: Sequence[Path], candidates: Sequence[int]) -> int:
    """Find the number of pieces per call with which the model is fastest, best of three."""
    pieces = system.pieces(_spectrograms(system, paths))
    times = {}
    for batch in sorted({min(candidate, len(pieces)) for candidate in candidates}):
        system.model(pieces[:batch], batch)
        times[batch] = min(_timed(lambda batch=batch: system.model(pieces, batch)) for _ in range(3))
    return min(times, key=times.__getitem__)


def _timed(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


# --- the whole ---------------------------------------------------------------------------------------------------


def measure(model: str, repeats: int, process_repeats: int, work_dir: str) -> dict[str, Any]:
    """Write the clips and take all measurements.

    Raises:
        BenchmarkError: If a process failed.
    """
    available = sorted(os.sched_getaffinity(0))
    cores = sorted({1, min(2, len(available))})
    result: dict[str, Any] = {"machine": machine(), "speed": {}, "memory": {}}
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(Path(folder), shipped_clips())
        result["clip_kbps"] = [path.stat().st_size * 8 / 1000 / CLIP_SECONDS for path in clips]
        common = {"model": model, "work_dir": work_dir}
        for count in progress_bar(cores, desc="speed", unit="setting"):
            task = {"measure": "speed", "counts": CLIP_COUNTS, "repeats": repeats, "clips": _texts(clips), **common}
            result["speed"][str(count)] = run_process(task, available[:count])
        for count in cores:
            speed = result["speed"][str(count)]
            peaks: dict[str, Any] = {}
            for _ in progress_bar(range(process_repeats), desc=f"memory, {count} core(s)", unit="repeat"):
                for name in ("", *SYSTEMS):
                    for n_clips in CLIP_COUNTS if name else (0,):
                        many = [clips[index % len(clips)] for index in range(n_clips)]
                        task = {"measure": "memory", "system": name, "clips": _texts(many), **common}
                        batch = speed["batches"][str(n_clips)][name] if name else 0
                        peak = run_process({**task, "batch": batch}, available[:count])
                        peaks.setdefault(str(n_clips), {}).setdefault(name or "tensorflow", []).append(peak)
            result["memory"][str(count)] = peaks
        result["cold_start"] = measure_cold_start(model, process_repeats)
    return result


def _texts(paths: Sequence[Path]) -> list[str]:
    return [str(path) for path in paths]


def run_process(task: dict[str, Any], cores: Sequence[int]) -> Any:
    """Carry out a task in a process that is bound to these cores, with one thread per core."""
    command = [sys.executable, __file__, f"--task={json.dumps(task)}"]
    threads = dict.fromkeys(THREADS, str(len(cores)))
    environment = {**os.environ, **threads, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    bound = ["taskset", "--cpu-list", ",".join(map(str, cores)), *command]
    return json.loads(_output(bound, environment).splitlines()[-1])


def measure_cold_start(model: str, repeats: int) -> dict[str, list[float]]:
    """Time `keras-tagger tag` on a shipped clip and `import tensorflow`, in turns, each in a new process."""
    clip = str(next(path for path in shipped_clips() if path.stem == "flute_solo"))
    chosen = [] if model == "compact" else ["--model", model]
    commands = {
        "tensorflow": [sys.executable, "-c", "import tensorflow"],
        "keras_tagger": [sys.executable, "-m", "keras_tagger", "tag", clip, *chosen],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for repeat in progress_bar(range(-1, repeats), desc="cold start", unit="repeat"):
        for name, command in commands.items():
            took = _timed(lambda command=command: _output(command, dict(os.environ)))
            if repeat >= 0:
                times[name].append(took)
    return times


def _output(command: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["a process failed without a message"])[-1]
        raise BenchmarkError(last.removeprefix("error: "))
    return done.stdout


def shipped_clips() -> list[Path]:
    """Return the clips in the package."""
    return sorted((Path(str(resources.files("keras_tagger"))) / "clips").glob("*.ogg"))


def make_clips(folder: Path, sources: Sequence[Path]) -> list[Path]:
    """Write the shipped clips as mp3s of 30 s, 44.1 kHz, stereo.

    The clips are mono and 25 s long. Each is repeated, and its right channel is delayed by 10 ms so that the channels
    differ.
    """
    import soundfile

    from keras_tagger import audio

    made = []
    for source in sources:
        left = np.resize(audio.load(source, CLIP_RATE), CLIP_SECONDS * CLIP_RATE)
        path = folder / f"{source.stem}.mp3"
        soundfile.write(path, np.stack([left, np.roll(left, CLIP_RATE // 100)], axis=1), CLIP_RATE, format="MP3")
        made.append(path)
    return made


def machine() -> dict[str, Any]:
    """Describe what the numbers depend on: processor, cores, versions, and load of the machine."""
    import soundfile

    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    return {
        "processor": f"{fields.get('model name', platform.machine())}, "
        f"family {fields.get('cpu family', '?')}, model {fields.get('model', '?')}",
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "system": f"{platform.system()}, Python {platform.python_version()}",
        "versions": {
            **{name: importlib.metadata.version(name) for name in PACKAGES},
            "libsndfile": soundfile.__libsndfile_version__,
        },
    }


# --- the page ----------------------------------------------------------------------------------------------------


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> np.ndarray:
    """Divide measurements of the same repeat, float64 [repeats]."""
    return np.asarray(numerators, np.float64) / np.asarray(denominators, np.float64)


def with_spread(values: Any, form: str = ".1f") -> str:
    """Format the median and, in parentheses, the quartiles."""
    low, middle, high = np.percentile(np.asarray(values, np.float64), (25, 50, 75))
    return f"{middle:{form}} ({low:{form}}-{high:{form}})"


def significant(values: Any) -> str:
    """Format the median and the quartiles with about three significant figures."""
    return with_spread(values, ".0f" if np.median(values) >= 100 else ".1f" if np.median(values) >= 10 else ".2f")


def speed_table(speed: dict[str, Any]) -> str:
    """Write a row per number of cores, number of clips and stage."""
    rows = [
        "| cores | clips | stage | musicnn, ms | keras_tagger, ms | times as fast |",
        "|---|---|---|---|---|---|",
    ]
    for cores, found in speed.items():
        for clips, stages in found["seconds"].items():
            for stage, times in stages.items():
                each = [1000.0 * np.asarray(times[name]) / int(clips) for name in SYSTEMS]
                cells = [cores, clips, stage, *map(significant, each), f"**{significant(ratios(*each))}**"]
                rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def memory_table(memory: dict[str, Any]) -> str:
    """Write a row per number of cores and number of clips."""
    rows = ["| cores | clips | musicnn, MiB | keras_tagger, MiB | ratio |", "|---|---|---|---|---|"]
    for cores, found in memory.items():
        for clips, peaks in found.items():
            if clips == "0":
                bare = with_spread(peaks["tensorflow"], ".0f")
                rows.append(f"| {cores} | none: `import tensorflow` | {bare} | {bare} | |")
            else:
                each = [peaks[name] for name in SYSTEMS]
                cells = [cores, clips, *(with_spread(peak, ".0f") for peak in each), significant(ratios(*each))]
                rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def page(measured: dict[str, Any], command: str) -> str:
    """Write the text of docs/benchmarks.md."""
    facts, cold, kbps = measured["machine"], measured["cold_start"], np.mean(measured["clip_kbps"])
    repeats = len(measured["speed"]["1"]["seconds"]["1"]["load"]["musicnn"])
    n_patches, n_windows = (measured["speed"]["1"]["pieces"][name] for name in SYSTEMS)
    extra = np.subtract(cold["keras_tagger"], cold["tensorflow"])
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    batches = "; ".join(
        f"{found['batches'][clips]['musicnn']} patches and {found['batches'][clips]['keras_tagger']} windows "
        f"({clips} clip{'s' * (clips != '1')}, {cores} core{'s' * (cores != '1')})"
        for cores, found in measured["speed"].items()
        for clips in found["batches"]
    )
    return f"""# Benchmarks

    {command}

writes this page. It compares keras_tagger with musicnn 0.1.0 (J. Pons and X. Serra, 2019, arXiv 1909.06654). Both run
in turns in one process, on the same clips: those in the package, as mp3s of 30 s, 44.1 kHz, stereo, {kbps:.0f} kb/s on
average. musicnn is rebuilt in Keras (`keras_tagger.teachers.musicnn`), with its published weights.

Every number is a median with its quartiles, over {repeats} repeats for times and {len(extra)} processes for memory and
cold start. Ratios are computed within each repeat. Everything runs once before it is timed.

- {facts["processor"]}; cores: {facts["cores"]}; {facts["system"]}; load average before the run {facts["load"]:.2f}
- {versions}

## Time per clip of 30 s

{speed_table(measured["speed"])}

- **load**: file to 16 kHz mono. musicnn: `librosa.load`; keras_tagger: `keras_tagger.audio.load`.
- **spectrogram**: musicnn: librosa's mel spectrogram of the whole clip, and its logarithm; keras_tagger: the
  spectrogram of its windows in the graph, including the cutting into windows.
- **model**: from finished spectrograms to tag probabilities, in one traced function each: {n_patches} patches a
  clip for musicnn; for keras_tagger, {n_windows} windows, from the front-end on. Each uses the batch size that
  was fastest for it: {batches}.
- **file to tags**: all of these, from the name of a file to the scores of its tags. musicnn: the steps above, with the
  patches of all clips in those batches. keras_tagger: `Tagger.tag_files`, as in the command line, which decodes and
  tags several files at a time.
- **file to taggram**: scores every 3 s. For musicnn this is the same work; keras_tagger's `Tagger.taggram` uses windows
  of 3 s.

`taskset` binds each process to its cores; TensorFlow and the numerical libraries use one thread per core.

## Peak memory

`ru_maxrss` of a process that loads one system and tags the files.

{memory_table(measured["memory"])}

## Cold start

Time of new processes, in turns, on all cores, with the files in the page cache; the clip is a shipped one of 25 s.

| process | seconds |
|---|---|
| `python -c "import tensorflow"` | {with_spread(cold["tensorflow"], ".2f")} |
| `keras-tagger tag clip.ogg` | {with_spread(cold["keras_tagger"], ".2f")} |
| difference | **{with_spread(extra, ".2f")}** |
"""


if __name__ == "__main__":
    define_flags()
    app.run(main)
