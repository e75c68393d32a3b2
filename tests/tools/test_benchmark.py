"""The benchmark beside musicnn: ratios, tables and page, clips, the stages of both systems, a process of its own.

musicnn's stages are tested with random weights; the test with its published weights is skipped if its wheel is missing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

import benchmark
import tiny
from keras_tagger.teachers import musicnn

ROOT = Path(__file__).parents[2]
WHEEL = Path(os.environ.get(musicnn.WHEEL_VARIABLE) or ROOT / "data/teacher" / musicnn.WHEEL)


def times(musicnn, keras_tagger):
    return {"musicnn": musicnn, "keras_tagger": keras_tagger}


SPEED = {
    "1": {
        "seconds": {
            "1": {"load": times([0.03, 0.06], [0.03, 0.03]), "model": times([0.2, 0.4, 0.6], [0.05, 0.1, 0.1])},
            "16": {"file to tags": times([3.2, 3.2], [0.8, 0.8])},
        },
        "batches": {"1": times(10, 4), "16": times(20, 8)},
        "pieces": times(10, 3),
    }
}
MEASURED = {
    "machine": {
        "processor": "A processor, family 1, model 2",
        "cores": 1,
        "load": 0.127,
        "system": "Linux, Python 3.11.2",
        "versions": {"keras_tagger": "0.1.0", "libsndfile": "1.2.2"},
    },
    "clip_kbps": [140.0, 160.0],
    "speed": SPEED,
    "memory": {
        "1": {
            "0": {"tensorflow": [400.0, 402.0, 404.0]},
            "1": times([1200.0, 1200.0], [600.0, 600.0]),
        }
    },
    "cold_start": {"tensorflow": [1.5, 1.7, 1.9], "keras_tagger": [2.5, 3.2, 2.9]},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    names = ("flute_solo", "rock_guitar_war")
    sources = [path for path in benchmark.shipped_clips() if path.stem in names]
    return benchmark.make_clips(tmp_path_factory.mktemp("clips"), sources)


@pytest.fixture(scope="module")
def systems(tagger):
    model = musicnn.build_model()
    tiny.randomize(model)
    return times(benchmark.Musicnn(musicnn.Musicnn("MTT", model)), benchmark.KerasTagger(tagger))


def test_ratios_are_taken_within_repeats():
    # The ratio of the medians would be 4 / 2.
    found = benchmark.ratios([2.0, 4.0, 9.0], [1.0, 4.0, 2.0])
    assert found.tolist() == [2.0, 1.0, 4.5]
    assert benchmark.with_spread(found, ".2f") == "2.00 (1.50-3.25)"


@pytest.mark.parametrize(
    ("values", "expected"),
    [([0.5], "0.50 (0.50-0.50)"), ([10.0, 20.0], "15.0 (12.5-17.5)"), ([99.0, 101.0, 103.0], "101 (100-102)")],
)
def test_numbers_have_about_three_figures(values, expected):
    assert benchmark.significant(values) == expected


def test_times_are_milliseconds_of_one_clip():
    assert benchmark.speed_table(SPEED).splitlines()[2:] == [
        "| 1 | 1 | load | 45.0 (37.5-52.5) | 30.0 (30.0-30.0) | **1.50 (1.25-1.75)** |",
        "| 1 | 1 | model | 400 (300-500) | 100 (75-100) | **4.00 (4.00-5.00)** |",
        "| 1 | 16 | file to tags | 200 (200-200) | 50.0 (50.0-50.0) | **4.00 (4.00-4.00)** |",
    ]


def test_memory_has_its_base():
    assert benchmark.memory_table(MEASURED["memory"]).splitlines()[2:] == [
        "| 1 | none: `import tensorflow` | 402 (401-403) | 402 (401-403) | |",
        "| 1 | 1 | 1200 (1200-1200) | 600 (600-600) | 2.00 (2.00-2.00) |",
    ]


def test_page_says_what_was_measured():
    text = benchmark.page(MEASURED, "python tools/benchmark.py --repeats=2")
    assert text.startswith("# Benchmarks\n\n    python tools/benchmark.py --repeats=2\n")
    assert "150 kb/s" in text
    assert "over 2 repeats for times and 3 processes" in text
    assert "- A processor, family 1, model 2; cores: 1; Linux, Python 3.11.2; load average before the run 0.13" in text
    assert "keras_tagger 0.1.0, libsndfile 1.2.2" in text
    assert "10 patches and 4 windows (1 clip, 1 core); 20 patches and 8 windows (16 clips, 1 core)." in text
    # This is the median of the differences, not the difference of the medians.
    assert "| difference | **1.00 (1.00-1.25)** |" in text


def test_command_has_no_folders():
    assert benchmark.command_line({}) == "python tools/benchmark.py"
    found = benchmark.command_line({"model": os.path.join(os.sep, "home", "me", "runs", "albums"), "repeats": 3})
    assert found == "python tools/benchmark.py --model=albums --repeats=3"


def test_machine_names_every_version():
    facts = benchmark.machine()
    assert facts["cores"] == len(os.sched_getaffinity(0))
    assert set(facts["versions"]) == {*benchmark.PACKAGES, "libsndfile"}
    assert all(re.match(r"\d+\.\d+", version) for version in facts["versions"].values())


def test_clips_are_mp3s_of_30_seconds(clips):
    assert [path.name for path in clips] == ["flute_solo.mp3", "rock_guitar_war.mp3"]
    for path in clips:
        info = soundfile.info(path)
        assert (info.format, info.samplerate, info.channels, info.duration) == ("MP3", 44100, 2, 30.0)
    left, right = soundfile.read(clips[0], dtype="float32")[0].T
    assert np.abs(left[44100:88200] - right[44541:88641]).max() < 0.1 * np.abs(left).max()
    assert np.abs(left - right).max() > 0.2 * np.abs(left).max()


def test_both_systems_load_the_same_samples(systems, clips):
    librosas, ours = (systems[name].load(clips[0]) for name in benchmark.SYSTEMS)
    assert librosas.shape == ours.shape == (480000,)
    np.testing.assert_allclose(librosas, ours, atol=1e-3)


def test_stages_of_musicnn_are_the_teachers(systems, clips):
    system = systems["musicnn"]
    pieces = system.pieces(system.spectrograms([system.load(clips[0]), system.load(clips[1])]))
    assert pieces.shape == (20, 187, 96)
    probabilities = system.model(pieces, 7)
    np.testing.assert_allclose(system.scores(clips[:2], 10)[1], probabilities[10:].mean(axis=0), atol=1e-5)
    (frames,) = system.spectrograms([system.load(clips[0])])
    np.testing.assert_allclose(musicnn.log_mel(system.load(clips[0])), frames, atol=2e-3)
    expected = system.network.logits(frames, musicnn.patch_starts(len(frames), musicnn.PATCH_SECONDS))
    np.testing.assert_allclose(system.taggram(clips[0], 10).T, 1.0 / (1.0 + np.exp(-expected)), atol=1e-5)


def test_stages_of_keras_tagger_are_the_taggers(systems, clips, tagger):
    system = systems["keras_tagger"]
    waveform = system.load(clips[0])
    pieces = system.pieces(system.spectrograms([waveform]))
    model = tagger.model
    windows = list(model.windowing.cut(clips[0]))
    expected = model.analyze(np.stack([window.waveform for window in windows]), ("tags",))["tags"].numpy()
    np.testing.assert_allclose(system.model(pieces, 8), expected, atol=1e-5)
    np.testing.assert_allclose(system.scores(clips[:1], 0)[0], tagger.scores(clips[0]), atol=1e-6)


def test_a_run_times_every_stage_of_both(systems, clips, tmp_path):
    """On the first ten seconds of the clips."""
    for path in clips:
        soundfile.write(tmp_path / path.name, soundfile.read(path, 10 * 44100)[0], 44100, format="MP3")
    found = benchmark.measure_speed(systems, [tmp_path / path.name for path in clips], counts=(1,), repeats=1)
    assert list(found["seconds"]) == ["1"]
    assert list(found["seconds"]["1"]) == list(benchmark.STAGES)
    for stage in found["seconds"]["1"].values():
        assert {name: len(values) for name, values in stage.items()} == times(1, 1)
        assert min(min(values) for values in stage.values()) > 0.0
    assert found["pieces"]["musicnn"] == 3
    assert found["batches"]["1"]["musicnn"] in (1, 2, 3)


def test_a_process_has_its_cores(clips, tagger, tmp_path):
    tagger.save(tmp_path / "tiny.keras")
    task = {"measure": "memory", "system": "keras_tagger", "model": str(tmp_path / "tiny.keras"), "work_dir": ""}
    peak = benchmark.run_process({**task, "clips": [str(clips[0])], "batch": 1}, sorted(os.sched_getaffinity(0))[:1])
    assert 100.0 < peak < 8000.0


def test_a_process_that_fails_says_why(clips, tmp_path):
    task = {"measure": "memory", "system": "keras_tagger", "model": str(tmp_path / "none"), "work_dir": ""}
    with pytest.raises(benchmark.BenchmarkError, match=r"^expected a .*none"):
        benchmark.run_process({**task, "clips": [], "batch": 1}, sorted(os.sched_getaffinity(0)))


@pytest.mark.skipif(
    not WHEEL.is_file(),
    reason=f"expected {musicnn.WHEEL} in data/teacher, or at {musicnn.WHEEL_VARIABLE} "
    "(pip download musicnn==0.1.0 --no-deps)",
)
def test_musicnn_runs_with_its_own_weights(clips):
    system = benchmark.open_system("musicnn", "", str(WHEEL.parent))
    assert musicnn.TAGS["MTT"][int(np.argmax(system.scores(clips[:1], 10)))] == "flute"
