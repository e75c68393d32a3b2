"""`Tagger` against the model by hand, and `load` against files that are not what they should be."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger.audio.windows import Window, Windowing
from keras_tagger.config import config_from_dict
from keras_tagger.errors import AudioError, AudioNotFoundError, AudioWarning, ModelError, ModelNotFoundError
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.tagger import Tagger, load
from keras_tagger.tags import TagInfo
from tiny import RATE, TAGS, noise

TOKEN = 2048
WINDOW = 7 * TOKEN
CLIP = noise(int(3.3 * WINDOW), seed=8)
SHORT = noise(9000, seed=9)
# The tokens of three whole windows, and the last three of a window that ends on the last sample.
TIMES = np.append((np.arange(21) + 0.5) * TOKEN, len(CLIP) - np.array([2.5, 1.5, 0.5]) * TOKEN) / RATE


def windows(tagger: Any, wave: np.ndarray, size: int = WINDOW) -> list[tuple[Window, dict[str, np.ndarray]]]:
    return [
        (window, {name: value[0].numpy() for name, value in tagger.model.analyze(window.waveform[None]).items()})
        for window in Windowing(RATE, size, TOKEN).cut((wave, RATE))
    ]


def weighted(tagger: Any, wave: np.ndarray, name: str, size: int = WINDOW) -> np.ndarray:
    return sum(window.new_samples / len(wave) * found[name] for window, found in windows(tagger, wave, size))


@pytest.mark.parametrize("wave", [SHORT, CLIP], ids=["short", "long"])
def test_scores_and_embedding_are_weighted_means(tagger: Any, wave: np.ndarray) -> None:
    scores = tagger.scores((wave, RATE))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, weighted(tagger, wave, "tags"), atol=1e-6)
    np.testing.assert_allclose(tagger.embed((wave, RATE)), weighted(tagger, wave, "embedding"), atol=1e-5)


def test_more_windows_than_a_batch(tagger: Any) -> None:
    wave = noise(20 * WINDOW + 5000, seed=3)
    np.testing.assert_allclose(tagger.scores((wave, RATE)), weighted(tagger, wave, "tags"), atol=1e-6)


def test_path_bytes_and_array_are_the_same(tagger: Any, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, CLIP, RATE, subtype="FLOAT")
    expected = tagger.scores((CLIP, RATE))
    for source in (path, str(path), path.read_bytes()):
        np.testing.assert_allclose(tagger.scores(source), expected, atol=1e-6)


def test_tags_are_sorted_scores(tagger: Any) -> None:
    scores = tagger.scores((CLIP, RATE))
    order = sorted(range(3), key=lambda index: -scores[index])
    found = tagger.tag((CLIP, RATE))
    assert found.names == tuple(TAGS[index] for index in order)
    np.testing.assert_array_equal(found.scores, scores[order])
    assert found.to_dict() == {TAGS[index]: float(scores[index]) for index in order}
    assert list(found.to_dict()) == list(found.names)
    assert len(found) == 3
    assert str(found).startswith(f"{found.names[0]} {found.scores[0]:.2f}, ")


@pytest.mark.parametrize(("top", "count"), [(1, 1), (2, 2), (3, 3), (1000, 3), (None, 3)])
def test_top(tagger: Any, top: int | None, count: int) -> None:
    everything = tagger.tag((SHORT, RATE), top=None)
    assert tagger.tag((SHORT, RATE), top=top).names == everything.names[:count]


def test_thresholds_evidence_and_synonyms(tagger: Any) -> None:
    scores = tagger.scores((SHORT, RATE))
    info = {"high": TagInfo(float(scores[0]) - 1e-3), "low": TagInfo(min(float(scores[1]) + 1e-3, 1.0), False)}
    known = Tagger(tagger.model, tagger.config, info)
    assert known.info == {**info, "mid": TagInfo()}
    tags = known.tag((SHORT, RATE))
    present = {"high": True, "low": False, "mid": scores[2] >= 0.5}
    assert dict(zip(tags.names, tags.present.tolist(), strict=True)) == present
    assert dict(zip(tags.names, tags.heard.tolist(), strict=True)) == {"high": True, "low": False, "mid": True}
    assert tagger.tag((SHORT, RATE)).heard.all()

    renamed = tagger.select(TAGS, {"high": "voice", "low": "singing"})
    merged = renamed.tag((SHORT, RATE), merge_synonyms=True)
    assert merged.to_dict() == {"voice": float(scores[:2].max()), "mid": float(scores[2])}
    assert len(renamed.tag((SHORT, RATE))) == 3
    with pytest.raises(ModelError, match="info: expected some of high, low, mid. Received: 'jazz'"):
        Tagger(tagger.model, tagger.config, {"jazz": TagInfo()})


def test_select_is_the_same_body_with_fewer_columns(tagger: Any) -> None:
    known = Tagger(tagger.model, tagger.config, {"mid": TagInfo(0.25, train_clips=7)})
    chosen = known.select(["mid", "high"], {"mid": "msd/middle"})
    assert chosen.tags == ("msd/middle", "high")
    assert chosen.info == {"msd/middle": TagInfo(0.25, train_clips=7), "high": TagInfo()}
    # A product with fewer columns may round differently.
    np.testing.assert_allclose(chosen.scores((CLIP, RATE)), tagger.scores((CLIP, RATE))[[2, 0]], rtol=1e-6)
    np.testing.assert_array_equal(chosen.embed((CLIP, RATE)), tagger.embed((CLIP, RATE)))
    np.testing.assert_allclose(
        chosen.contributions((CLIP, RATE)).values, tagger.contributions((CLIP, RATE), ["mid", "high"]).values, atol=1e-6
    )
    assert chosen.config is tagger.config
    # A copy: what happens to one does not happen to the other.
    before = tagger.scores((SHORT, RATE))
    chosen.model.front_end.project.bias.assign(chosen.model.front_end.project.bias + 1.0)
    np.testing.assert_array_equal(tagger.scores((SHORT, RATE)), before)
    np.testing.assert_allclose(known.select("low").scores((SHORT, RATE)), before[[1]], atol=1e-7)


def test_select_of_a_head_with_a_pooler(post_norm_tagger: Any) -> None:
    chosen = post_norm_tagger.select(["c", "a"])
    np.testing.assert_allclose(chosen.scores((SHORT, RATE)), post_norm_tagger.scores((SHORT, RATE))[[2, 0]], atol=1e-6)


@pytest.mark.parametrize(
    ("tags", "rename", "words"),
    [
        (["low", "jazz"], None, "tags: expected some of high, low, mid. Received: 'jazz'"),
        ([], None, "tags: expected at least one name, each once. Received: none"),
        (["low", "low"], None, "each once. Received: low, low"),
        (["low", "mid"], {"low": "mid"}, "each once. Received: mid, mid"),
        (["low"], {"mid": "x"}, "rename: expected some of low. Received: 'mid'"),
    ],
)
def test_select_of_what_cannot_be(tagger: Any, tags: list[str], rename: Any, words: str) -> None:
    with pytest.raises(ModelError, match=words):
        tagger.select(tags, rename)


def test_ranked_by_margin_everywhere(tagger: Any) -> None:
    scores = dict(zip(TAGS, tagger.scores((SHORT, RATE)), strict=True))
    # The lowest score is far above its threshold, and the highest one below it.
    high, middle, low = sorted(TAGS, key=lambda tag: -scores[tag])
    info = {
        high: TagInfo(min(float(scores[high]) + 0.01, 1.0)),
        middle: TagInfo(has_evidence=False),
        low: TagInfo(0.001),
    }
    known = Tagger(tagger.model, tagger.config, info)
    found = known.tag((SHORT, RATE), rank="margin")
    assert found.names == (low, high, middle)
    assert known.tag((SHORT, RATE)).names == (high, middle, low)
    assert [tags.names for _, tags in known.tag_files([(SHORT, RATE)], 2, rank="margin")] == [(low, high)]
    for heat in (known.contributions((SHORT, RATE)), known.taggram((SHORT, RATE))):
        assert heat.top(3, rank="margin").tags == (low, high, middle)
        assert heat.top(1).tags == (high,)
    margins = known.contributions((SHORT, RATE)).top(2, rank="margin").margins
    np.testing.assert_allclose(margins, found.margins[:2], atol=1e-3)
    for ask in (known.tag, lambda clip, rank: known.tag_files([clip], rank=rank)):
        with pytest.raises(ModelError, match="rank: expected score or margin. Received: 'best'"):
            ask((SHORT, RATE), rank="best")


@pytest.mark.parametrize("top", [0, -1, 2.5, "3", float("nan")])
def test_an_impossible_top(tagger: Any, top: Any) -> None:
    with pytest.raises(ModelError, match=f"top: expected at least 1. Received: {top!r}"):
        tagger.tag((SHORT, RATE), top=top)
    with pytest.raises(ModelError, match=f"top: expected at least 1. Received: {top!r}"):
        tagger.tag_files([(SHORT, RATE)], top=top)


def test_many_files_are_tagged_as_each_alone(tagger: Any, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, CLIP, RATE, subtype="FLOAT")
    broken = io.BytesIO()
    soundfile.write(broken, noise(9 * WINDOW, seed=4), RATE, format="FLAC")
    half = broken.getvalue()[: len(broken.getvalue()) // 2]
    sources = [(SHORT, RATE), half, path, "missing.wav", b"no audio", (CLIP[:5000], RATE), path.read_bytes(), half]
    found = list(tagger.tag_files(iter(sources), top=2, merge_synonyms=True))
    assert len(found) == len(sources)
    for place, (source, (given, tags)) in enumerate(zip(sources, found, strict=True)):
        assert given is source
        if place in (1, 3, 4, 7):
            with pytest.raises((AudioError, AudioNotFoundError)) as caught:
                tagger.tag(source)
            assert type(tags) is caught.type
            assert str(tags) == str(caught.value)
        else:
            alone = tagger.tag(source, top=2, merge_synonyms=True)
            assert tags.names == alone.names
            np.testing.assert_allclose(tags.scores, alone.scores, atol=1e-6)


def test_files_are_tagged_as_they_are_taken(tagger: Any) -> None:
    taken: list[int] = []

    def sources() -> Any:
        for number in range(1000):
            taken.append(number)
            yield (SHORT, RATE)

    found = tagger.tag_files(sources())
    assert not taken
    next(found)
    found.close()
    assert len(taken) < 30


def test_files_are_tagged_and_embedded_in_one_pass(tagger: Any) -> None:
    sources = [(SHORT, RATE), b"no audio", (np.tile(SHORT, 3), RATE)]
    first, wrong, last = (found for _, found in tagger.describe_files(sources))
    assert isinstance(wrong, AudioError)
    for (tags, embedding), source in ((first, sources[0]), (last, sources[2])):
        expected = tagger.tag(source, top=None)
        assert tags.to_dict() == pytest.approx(expected.to_dict(), abs=1e-5)
        assert tags.seconds == expected.seconds == len(source[0]) / RATE
        np.testing.assert_allclose(embedding, tagger.embed(source), atol=1e-4)


def test_no_files(tagger: Any) -> None:
    assert list(tagger.tag_files([])) == []


@pytest.mark.parametrize(
    ("source", "received"),
    [("song.wav", r"'song\.wav'"), (Path("a/song.wav"), r"'a/song\.wav'"), (b"RIFF", "the bytes of one")],
)
def test_a_single_file_is_not_several(tagger: Any, source: Any, received: str) -> None:
    with pytest.raises(ModelError, match=f"sources: expected several files, .* Received: {received}\\."):
        tagger.tag_files(source)


def test_clips_given_as_windows_are_scored_together(tagger: Any) -> None:
    """Clips of several, one and too little audio share batches; scores and errors keep their places."""

    def broken() -> Any:
        yield Window(0, CLIP[:WINDOW], WINDOW)
        raise AudioError("Expected a whole file. Received: half.")

    def clips() -> Any:
        yield tagger.model.windowing.cut((CLIP, RATE))
        yield broken()
        yield tagger.model.windowing.cut((SHORT, RATE))
        yield tagger.model.windowing.cut("missing.wav")
        # Windows that all count the same, as `evenly_spaced` cuts them.
        yield iter([Window(0, CLIP[:WINDOW], 1), Window(WINDOW, CLIP[WINDOW : 2 * WINDOW], 1)])

    for batch_size in (1, 3, 8):
        whole, half, short, missing, spaced = tagger.clip_scores(clips(), batch_size)
        np.testing.assert_allclose(whole, tagger.scores((CLIP, RATE)), atol=1e-6)
        np.testing.assert_allclose(short, tagger.scores((SHORT, RATE)), atol=1e-6)
        assert isinstance(half, AudioError)
        assert isinstance(missing, AudioNotFoundError)
        parts = [tagger.scores((CLIP[start : start + WINDOW], RATE)) for start in (0, WINDOW)]
        np.testing.assert_allclose(spaced, np.mean(parts, axis=0), atol=1e-6)
        assert whole.dtype == np.float64


def test_taggram_is_the_tags_of_short_windows(tagger: Any) -> None:
    # 0.3 s is 2.3 tokens: two are taken.
    found = tagger.taggram((CLIP, RATE), window_seconds=0.3)
    by_hand = windows(tagger, CLIP, 2 * TOKEN)
    np.testing.assert_allclose(found.values, np.stack([one["tags"] for _, one in by_hand], axis=1), atol=1e-6)
    full = len(CLIP) // (2 * TOKEN)
    times = [(index + 0.5) * 2 * TOKEN / RATE for index in range(full)]
    times.append((full * 2 * TOKEN + len(CLIP)) / 2 / RATE)
    np.testing.assert_allclose(found.times, times, atol=1e-9)
    np.testing.assert_allclose(found.scores, weighted(tagger, CLIP, "tags", 2 * TOKEN), atol=1e-6)
    assert (found.tags, found.method) == (TAGS, "taggram")


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_taggram_of_no_length(tagger: Any, seconds: float) -> None:
    with pytest.raises(ModelError, match="window_seconds: expected a positive time"):
        tagger.taggram((SHORT, RATE), window_seconds=seconds)


def test_attention_of_one_window(tagger: Any) -> None:
    found = tagger.attention((SHORT, RATE))
    expected = tagger.model.analyze(SHORT[None], ("attention",))["attention"][0]
    np.testing.assert_allclose(found.weights, expected, atol=1e-6)
    np.testing.assert_allclose(found.weights.sum(axis=-1), 1.0, atol=1e-6)
    np.testing.assert_allclose(found.times, 0.064 + 0.128 * np.arange(5), atol=1e-9)
    np.testing.assert_allclose(found.heatmap().values[0], found.weights[-1, :, 0, 1:].sum(axis=0), atol=1e-6)


def test_attention_of_several_windows(tagger: Any) -> None:
    found = tagger.attention((CLIP, RATE))
    by_hand = windows(tagger, CLIP)
    assert len(found.windows) == len(by_hand) == 4
    for window, (expected, outputs) in zip(found.windows, by_hand, strict=True):
        np.testing.assert_allclose(window.weights, outputs["attention"], atol=1e-5)
        np.testing.assert_allclose(window.start_seconds, expected.start_sample / RATE, atol=1e-9)
    np.testing.assert_allclose(found.times, TIMES, atol=1e-9)


def test_contributions_are_stitched(tagger: Any) -> None:
    found = tagger.contributions((CLIP, RATE))
    n_tokens = -(-len(CLIP) // TOKEN)
    expected = np.full((3, n_tokens), np.nan)
    for window, outputs in windows(tagger, CLIP):
        new = -(-window.new_samples // TOKEN)
        end = -(-window.start_sample // TOKEN) + 7
        expected[:, end - new : end] = outputs["contributions"][:, -new:]
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    np.testing.assert_allclose(found.times, TIMES, atol=1e-9)
    np.testing.assert_allclose(found.scores, tagger.scores((CLIP, RATE)), atol=1e-6)
    chosen = tagger.contributions((CLIP, RATE), tags=["mid", "high"])
    assert chosen.tags == ("mid", "high")
    np.testing.assert_allclose(chosen.values, found.values[[2, 0]], atol=1e-6)
    np.testing.assert_allclose(chosen.scores, found.scores[[2, 0]], atol=1e-6)
    assert tagger.contributions((SHORT, RATE), tags="low").tags == ("low",)


def test_contributions_to_an_unknown_tag(tagger: Any) -> None:
    with pytest.raises(ModelError, match="tags: expected some of high, low, mid. Received: 'jazz'"):
        tagger.contributions((SHORT, RATE), tags=["low", "jazz"])


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ([], "tags: expected at least one of high, low, mid. Received: none"),
        (["low", "low"], "tags: expected at least one name, each once. Received: low, low"),
    ],
)
def test_contributions_to_an_impossible_choice(tagger: Any, tags: list[str], words: str) -> None:
    with pytest.raises(ModelError, match=words):
        tagger.contributions((SHORT, RATE), tags=tags)


def test_audio_that_cannot_be_used(tagger: Any, tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("no music")
    with pytest.raises(AudioError, match=r"text\.mp3"):
        tagger.tag(tmp_path / "text.mp3")
    with pytest.raises(AudioNotFoundError, match=r"none\.wav"):
        tagger.embed(tmp_path / "none.wav")
    with pytest.raises(AudioError, match="finite samples"):
        tagger.attention((np.full(100, np.nan, np.float32), RATE))


def test_save_and_load(tagger: Any, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "tagger.keras"
    tagger.save(path)
    assert [entry.name for entry in path.parent.iterdir()] == ["tagger.keras"]
    loaded = load(path)
    assert loaded.tags == tagger.tags
    assert (loaded.config.audio, loaded.config.model) == (tagger.config.audio, tagger.config.model)
    np.testing.assert_allclose(loaded.scores((CLIP, RATE)), tagger.scores((CLIP, RATE)), atol=1e-6)
    assert load(str(path)).tags == tagger.tags
    info = {"low": TagInfo(0.25, True, True, 12), "mid": TagInfo(has_evidence=False)}
    Tagger(tagger.model, tagger.config, info).save(path)
    assert load(path).info == {"high": TagInfo(), **info}


def test_save_wants_a_keras_name(tagger: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"ends in \.keras\. Received: .*model\.h5"):
        tagger.save(tmp_path / "model.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_failing_save_leaves_the_old_file(tagger: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.keras"
    path.write_bytes(b"old")

    def fails(target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(tagger.model, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        tagger.save(path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == {"model.keras": b"old"}


def test_load_of_a_run(tiny_run: Any) -> None:
    loaded = load(tiny_run.dir)
    assert loaded.tags == TAGS
    assert loaded.config == tiny_run.tagger.config
    wave = tiny.tone(150.0, 2.5, 1)
    np.testing.assert_allclose(loaded.scores((wave, RATE)), tiny_run.tagger.scores((wave, RATE)), atol=1e-6)


def test_load_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match=r"none\.keras.*does not exist"):
        load(tmp_path / "none.keras")


@pytest.mark.parametrize("source", [None, 5, b"compact"])
def test_load_of_no_name(source: Any) -> None:
    with pytest.raises(ModelError, match=rf"expected a pretrained name .* Received: {source!r}\."):
        load(source)


def test_load_of_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"expected a run directory.*without model\.keras"):
        load(tmp_path)


def test_load_of_a_savedmodel(exported: Path) -> None:
    with pytest.raises(ModelError, match="expected a run directory.*a SavedModel"):
        load(exported)


def rewrite(source: Path, target: Path, replaced: dict[str, bytes | None]) -> Path:
    """A copy of a zip with some members replaced, or (None) left out."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            content = replaced.get(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


@pytest.fixture(scope="module")
def saved(tagger: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    tagger.save(path)
    return path


def refused(path: Path, words: str) -> None:
    with pytest.raises(ModelError, match=words) as caught:
        load(path)
    assert path.name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_load_of_damaged_files(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    cases = {"empty": b"", "text": b"not a zip\n", "half": whole[: len(whole) // 2]}
    for name, content in cases.items():
        path = tmp_path / f"{name}.keras"
        path.write_bytes(content)
        refused(path, r"expected a \.keras file")


@pytest.mark.parametrize("name", ["config.json", "model.weights.h5"])
@pytest.mark.parametrize("content", [None, b"", b"[1, 2]", b"{}"])
def test_load_of_broken_members(saved: Path, tmp_path: Path, name: str, content: bytes | None) -> None:
    refused(rewrite(saved, tmp_path / "broken.keras", {name: content}), "expected")


def test_load_of_a_file_from_before_tags_json(saved: Path, tmp_path: Path) -> None:
    old = rewrite(saved, tmp_path / "old.keras", {"tags.json": None})
    assert load(old).info == dict.fromkeys(TAGS, TagInfo())
    refused(rewrite(saved, tmp_path / "broken.keras", {"tags.json": b"[1"}), "expected JSON")


def test_a_runs_tags_json_stands_over_the_files(tiny_run: Any, tmp_path: Path) -> None:
    assert load(tiny_run.dir).info == tiny_run.tagger.info == dict.fromkeys(TAGS, TagInfo(train_clips=4))
    for name in ("model.keras", "config.yaml"):
        shutil.copy(tiny_run.dir / name, tmp_path / name)
    assert load(tmp_path).info == dict.fromkeys(TAGS, TagInfo())
    text = (tiny_run.dir / "tags.json").read_text(encoding="utf-8").replace("0.5", "0.125", 1)
    (tmp_path / "tags.json").write_text(text, encoding="utf-8")
    assert load(tmp_path).info["high"] == TagInfo(0.125, train_clips=4)


def stored_config(saved: Path) -> dict[str, Any]:
    with zipfile.ZipFile(saved) as archive:
        return json.loads(archive.read("config.json"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tags": None}, "expected"),
        ({"tags": ["a", "b"]}, "expected the weights"),
        ({"model": {"encoder": {"width": "wide"}}}, r"model\.encoder\.width: expected a whole number"),
        ({"model": {"other": 1}}, r"model\.other: unknown key"),
        ({"audio": 3}, "audio: expected keys and values"),
    ],
)
def test_load_of_other_values(saved: Path, tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    stored = stored_config(saved)
    stored["config"].update(changes)
    path = rewrite(saved, tmp_path / "changed.keras", {"config.json": json.dumps(stored).encode()})
    with pytest.raises(ModelError, match=words):
        load(path)


def test_load_of_another_class(tmp_path: Path) -> None:
    path = tmp_path / "other.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    refused(path, "expected a keras_tagger model.*Sequential")


def test_load_runs_no_code_of_the_file(tmp_path: Path, saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    marker = tmp_path / "marker"

    path = tmp_path / "lambda.keras"
    # Keras stores a lambda's bytecode.
    touching = keras.layers.Lambda(lambda x: (__import__("pathlib").Path("marker").touch(), x)[1], output_shape=(2,))
    keras.Sequential([keras.Input((2,)), touching]).save(path)
    marker.unlink(missing_ok=True)
    # The file is dangerous: a reader that trusts it runs the function.
    keras.saving.load_model(path, safe_mode=False)(np.zeros((1, 2)))
    assert marker.exists()
    marker.unlink()
    refused(path, "expected a keras_tagger model")
    assert not marker.exists()

    # The same layer under this package's name, and inside its values.
    with zipfile.ZipFile(path) as archive:
        layer = json.loads(archive.read("config.json"))
    hidden = {**layer, "registered_name": "keras_tagger>MusicTagger"}
    inside = stored_config(saved)
    inside["config"]["model"] = layer
    for name, stored in (("hidden", hidden), ("inside", inside)):
        crafted = rewrite(saved, tmp_path / f"{name}.keras", {"config.json": json.dumps(stored).encode()})
        with pytest.raises(ModelError, match="expected|unknown key"):
            load(crafted)
        assert not marker.exists()


def test_load_of_a_run_with_a_broken_config(tiny_run: Any, tmp_path: Path) -> None:
    shutil.copy(tiny_run.dir / "model.keras", tmp_path / "model.keras")
    (tmp_path / "config.yaml").write_text("model: [1, 2", encoding="utf-8")
    with pytest.raises(ValueError, match=r"expected a YAML file. Received: .*config\.yaml"):
        load(tmp_path)


def test_tagger_of_wav_bytes_at_another_rate(tagger: Any) -> None:
    """A 44.1 kHz stereo version of a tone gives the tone's tags."""
    time = np.arange(2 * 44100) / 44100
    wave = 0.3 * np.sin(2 * np.pi * 440 * time)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([wave, wave], axis=1), 44100, format="WAV", subtype="PCM_24")
    same = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
    expected = tagger.scores((same, RATE))
    np.testing.assert_allclose(tagger.scores(buffer.getvalue()), expected, atol=1e-4)
    # The same samples at a rate only a little off are another tone, and another score.
    assert np.abs(tagger.scores((wave.astype(np.float32), 48000)) - expected).max() > 1e-3


def test_model_attribute_is_a_keras_model(tagger: Any) -> None:
    assert isinstance(tagger, Tagger)
    assert isinstance(tagger.model, keras.Model)


# --- what a listener must know

INVERTED = np.stack([SHORT, -SHORT], axis=1)
HEARD = {
    "fine": (SHORT, []),
    "silent": (np.zeros(2 * WINDOW), ["silent"]),
    "inverted": (INVERTED, ["cancelled"]),
    "scaled": (CLIP * 2**15, ["level"]),
    "inverted and scaled": (INVERTED * 2**15, ["cancelled", "level"]),
}


@pytest.mark.parametrize("case", HEARD)
def test_tags_and_maps_say_what_a_listener_must_know(tagger: Any, case: str) -> None:
    wave, kinds = HEARD[case]
    source = (wave.astype(np.float32), RATE)
    found = {
        "tag": tagger.tag(source),
        "tag_files": next(tagger.tag_files([source]))[1],
        "contributions": tagger.contributions(source),
        "explain": tagger.explain(source, "random"),
        "taggram": tagger.taggram(source, 0.5),
        "attention": tagger.attention(source),
    }
    assert {name: [warning.kind for warning in value.warnings] for name, value in found.items()} == dict.fromkeys(
        found, kinds
    )


def test_nothing_is_present_in_silence(tagger: Any) -> None:
    low = Tagger(tagger.model, tagger.config, {tag: TagInfo(threshold=0.0) for tag in TAGS})
    for wave in (np.zeros(SHORT.shape), np.zeros(3 * WINDOW), np.full(9000, 0.2)):
        for rate in (RATE, 44100):
            tags = low.tag((wave, rate))
            assert [(entry.score, entry.present) for entry in tags] == [(0.0, False)] * 3
    with pytest.warns(AudioWarning, match="silent"):
        assert not low.scores((np.zeros(9000), RATE)).any()
    for method in ("contributions", "integrated_gradients", "taggram", "attention"):
        heat = low.explain((np.zeros(9000), RATE), method)
        assert not heat.scores.any()
        assert not heat.values.any(), method


def test_nothing_is_present_in_silence_among_exclusive_tags(tagger: Any) -> None:
    values = tiny.merged(tagger.config.to_dict(), {"model": {"head": {"activation": "softmax"}}})
    config = config_from_dict(values)
    exclusive = Tagger(MusicTagger(TAGS, config.audio, config.model), config)
    exclusive.model.build()
    assert not exclusive.tag((np.zeros(9000), RATE)).scores.any()
    np.testing.assert_allclose(exclusive.tag((SHORT, RATE)).scores.sum(), 1.0, atol=1e-5)


def test_cancelled_channels_are_tagged_like_one(tagger: Any) -> None:
    np.testing.assert_array_equal(tagger.tag((INVERTED, RATE)).scores, tagger.tag((SHORT, RATE)).scores)


def test_each_of_several_files_has_its_own_warnings(tagger: Any) -> None:
    waves = [SHORT, np.zeros(9000), CLIP, CLIP[:0], INVERTED, np.zeros(3 * WINDOW)]
    found = [tags for _, tags in tagger.tag_files([(wave, RATE) for wave in waves])]
    kinds = [None if isinstance(tags, AudioError) else [one.kind for one in tags.warnings] for tags in found]
    assert kinds == [[], ["silent"], [], None, ["cancelled"], ["silent"]]
