"""tools/pretrain: the model that begins as musicnn, the quick teacher, and learning from it; with random weights."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import tensorflow as tf

import tiny
from keras_tagger.tagger import load
from keras_tagger.teachers import musicnn
from pretrain import attend, begin, learn


def random_network(vocabulary, seed):
    """musicnn with random weights: some scales below zero, some filters dead."""
    model = musicnn.build_model()
    tiny.randomize(model, seed)
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if not layer.name.startswith("batch_normalization") or layer.weights[0].shape[0] == 1:
            continue
        gamma, beta, mean, variance = layer.get_weights()
        gamma = gamma * rng.choice([-1.0, 1.0], gamma.shape)
        if layer.weights[0].shape[0] in (51, 204):
            dead = rng.random(gamma.shape) < 0.4
            variance = np.where(dead, 0.0, variance)
            # A dead filter never finds anything.
            index = int(layer.name.rpartition("_")[2]) - 1
            conv = model.get_layer(f"conv2d_{index}" if index else "conv2d")
            kernel, bias = conv.get_weights()
            kernel[..., dead], bias[dead], mean = 0.0, -1.0, np.where(dead, 0.0, mean)
            conv.set_weights([kernel, bias])
        layer.set_weights([gamma, beta, mean, variance])
    return musicnn.Musicnn(vocabulary, model)


@pytest.fixture(scope="module")
def networks():
    return [random_network("MTT", 1), random_network("MSD", 2)]


@pytest.fixture(scope="module")
def begun(networks):
    return begin.begin(networks)


@pytest.fixture(scope="module")
def frames():
    return musicnn.log_mel(tiny.noise(16000 * 6, seed=5))


def test_features_are_musicnns(networks, begun, frames):
    """In the middle of a patch, where its padding is out of reach."""
    patch = frames[:187]
    front_end = begun.model.front_end
    maps = front_end.feature_maps(tf.constant(patch[np.newaxis] * np.log(10.0)))[0, :, 0].numpy()
    half = maps.shape[-1] // 2
    means, deviations = (
        front_end.feature_norm.moving_mean.numpy(),
        np.sqrt(front_end.feature_norm.moving_variance.numpy() + front_end.feature_norm.epsilon),
    )
    maps = maps * deviations + means
    tokens = np.arange(11, 13)
    columns = {"MTT": [], "MSD": []}
    n_filters = sum(front_end.filters)
    for index, network in enumerate(networks):
        joined = network.model.get_layer("front_end").output
        found = np.asarray(begin.keras.Model(network.model.input, joined)(patch[np.newaxis]))[0]
        live = np.concatenate(
            [start + live for start, live in zip(np.cumsum([0, *begin.N_FILTERS[:-1]]), network.live, strict=True)]
        )  # fmt: skip
        rows = begin.joined_rows([begin.Body(other) for other in networks], index)
        grouped = np.stack([found[8 * token : 8 * token + 8, live] for token in tokens])
        np.testing.assert_allclose(maps[tokens][:, rows], grouped.max(axis=1), rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(maps[tokens][:, half + rows], grouped.mean(axis=1), rtol=1e-3, atol=1e-3)
        columns[network.vocabulary] = rows
    assert sorted([*columns["MTT"], *columns["MSD"]]) == list(range(n_filters))


def test_head_is_musicnns(networks, begun):
    rng = np.random.default_rng(3)
    context = rng.uniform(0.0, 1.0, (1, 1, 400)).astype(np.float32)
    token = begun.model.front_end.project_context(context)[:, 0]
    expected = []
    for index, network in enumerate(networks):
        hidden = context[:, 0, 200 * index : 200 * (index + 1)]
        normed = network.model.get_layer("batch_normalization_10")(hidden, training=False)
        expected.append(network.model.get_layer("dense_1")(normed))
    np.testing.assert_allclose(begun.model.head(token), np.concatenate(expected, axis=1), rtol=1e-3, atol=1e-3)
    assert begun.tags[:2] == ("guitar", "classical")
    assert begun.tags[50:52] == ("msd/rock", "msd/pop")


def test_attention_begins_as_the_mean(begun):
    tokens = np.random.default_rng(4).standard_normal((1, 12, begun.model.model_config.encoder.width), np.float32)
    placed = begun.model.place(tf.constant(tokens))
    found, scores = begun.model.encoder(placed, return_attention_scores=True)
    np.testing.assert_allclose(found, tokens.sum(axis=1) / 13, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(scores[:, -1], 1 / 13, rtol=1e-4)


def test_patches_in_a_graph_are_musicnns(networks, frames):
    patches = np.stack([frames[start : start + 187] for start in (0, 50, 150)])
    for network in networks:
        hidden, logits = network.hidden_and_logits(tf.constant(patches))
        expected = network.model(patches, training=False).numpy()
        np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
        gamma, beta, *_ = network.model.get_layer("batch_normalization_10").get_weights()
        last = network.model.get_layer("dense_1")(hidden * gamma + beta)
        np.testing.assert_allclose(last, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.fixture
def clips(tmp_path, monkeypatch, networks, begun):
    """A manifest of two clips with dense labels, beside the model that begins."""
    rng = np.random.default_rng(6)
    rows = []
    for index in range(2):
        soundfile.write(tmp_path / f"{index}.flac", 0.1 * rng.standard_normal(16000 * (4 + 8 * index)), 16000)
        labels = {"seconds": 4.0 + 8 * index, "stretch_seconds": 0.5, "tags": {"guitar": [[0.0, 4.0]], "flute": []}}
        (tmp_path / f"{index}.json").write_text(json.dumps(labels))
        rows.append(json.dumps({"path": f"{index}.flac", "tags": {}, "labels": f"{index}.json", "split": "train"}))
    (tmp_path / "clips.jsonl").write_text("\n".join(rows))
    begun.save(tmp_path / "begun.keras")
    monkeypatch.setattr(learn, "load_musicnn", lambda wheel, vocabulary: networks[learn.VOCABULARIES.index(vocabulary)])
    monkeypatch.setattr(learn, "find_wheel", lambda folder: folder)
    return str(tmp_path / "clips.jsonl")


def test_learning_is_resumed(tmp_path, monkeypatch, clips):
    settings = SimpleNamespace(
        init=str(tmp_path / "begun.keras"), work_dir="", music=[f"{clips}=2"], notes=[clips], music_batch=1,
        notes_batch=1, learning_rate=1e-4, new_learning_rate=1e-3, hint=0.3, contributions=1.0, temperature=2.0,
        present=0.8, absent=0.02, save_steps=1, seed=0, steps=1, flag_values_dict=dict,
    )  # fmt: skip
    monkeypatch.setattr(learn, "FLAGS", settings)
    learn.learn(tmp_path / "run")
    first = load(tmp_path / "run/last.keras").model.get_weights()
    settings.steps = 2
    learn.learn(tmp_path / "run")
    with np.load(tmp_path / "run/optimizer.npz") as state:
        assert int(state["0000"]) == 2
    second = load(tmp_path / "run/last.keras").model.get_weights()
    assert all(np.isfinite(weight).all() for weight in second)
    assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_gaps_replace_what_does_not_sound():
    rng = np.random.default_rng(7)
    wave = np.ones(80 * 2048, np.float32)
    for _ in range(20):
        heard, sounding = attend.with_gaps(wave, 80, rng)
        level = np.abs(heard.reshape(80, 2048)).mean(axis=1)
        inside = sounding & np.roll(sounding, 1) & np.roll(sounding, -1)
        gaps = ~sounding & ~np.roll(sounding, 1) & ~np.roll(sounding, -1)
        assert sounding.sum() >= 20
        np.testing.assert_allclose(level[inside], 1.0, atol=0.06)
        assert (level[gaps] < 0.06).all()


def test_attention_learns_and_is_resumed(tmp_path, monkeypatch, clips):
    settings = SimpleNamespace(
        init=str(tmp_path / "begun.keras"), work_dir="", music=[clips], notes=[clips], crops=["1", "2", "1", "1"],
        batch=["1", "2", "1", "1"], steps=1, attention_learning_rate=1e-2, new_learning_rate=1e-3, learning_rate=1e-5,
        present=0.8, absent=0.02, notes_weight=0.5, save_steps=1, seed=0, second=None, second_weight=0.7,
        second_weight_of_music=0.3,
    )  # fmt: skip
    monkeypatch.setattr(attend, "FLAGS", settings)
    filters = load(settings.init).model.front_end.convolutions[0].get_weights()
    attend.attend(tmp_path / "run")
    written = (tmp_path / "run/features/gaps.npz").stat().st_mtime_ns
    settings.steps = 2
    model = attend.attend(tmp_path / "run").model
    assert (tmp_path / "run/features/gaps.npz").stat().st_mtime_ns == written
    with np.load(tmp_path / "run/optimizer.npz") as state:
        assert int(state["0000"]) == 2
    for before, after in zip(filters, model.front_end.convolutions[0].get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    # [CLS] begins as zero, so that only the bias of its query learns at first.
    assert np.abs(model.encoder.blocks[-1].attention.query_dense.get_weights()[1]).max() > 0


def test_a_second_teacher_is_asked_about_the_same_patches(monkeypatch, clips, begun):
    monkeypatch.setattr(attend, "FLAGS", SimpleNamespace(work_dir=""))
    second = tiny.random_tagger({"audio": {"window_seconds": 3.0}}, ("flute", "guitar", "loud"))
    waves = np.stack([tiny.noise(163840, seed=seed) for seed in (8, 9)])
    alone, both = (attend.Features(begun.model, other).hear(waves, waves) for other in (None, second))
    patches = np.stack([waves[:, 256 * start : 256 * (start + 187)] for start in attend.STARTS], axis=1)
    expected = second.model(patches.reshape(6, -1)).numpy().reshape(2, 3, 3)
    assert alone[3].shape == (2, 3, 0)
    np.testing.assert_allclose(both[3], expected, rtol=1e-4, atol=1e-4)


def test_a_second_teacher_has_a_say_in_instruments_only():
    soft = np.array([[0.5, 0.2, 0.9]])
    found = attend.mixed(soft, np.array([[9.0, 2.0]]), ["loud", "guitar", "flute"], ["loud", "guitar"], 0.75)
    expected = 0.25 * np.log(0.2 / 0.8) + 0.75 * 2.0
    np.testing.assert_allclose(found, [[0.5, 1.0 / (1.0 + np.exp(-expected)), 0.9]], rtol=1e-6)


def test_seconds_of_notes_have_labels_of_their_own(clips, begun):
    seconds = attend.STRETCHES[3:]
    assert [round(start * 256 / 16000, 3) for start, _ in seconds] == [round(0.992 * n, 3) for n in range(10)]
    source = learn.Source([clips], 163840, begun.tags, 0, attend.STRETCHES)
    while len(source.clips[0]) == 2:
        # The clip of 12 s, in which a guitar plays for 4 s.
        source.clips[0] = source.clips[0][1:]
    source.rng = SimpleNamespace(integers=lambda n: 0, choice=lambda n, p: 0)
    known = source.crop()[1][:, begun.tags.index("guitar")]
    np.testing.assert_array_equal(known[3:], [1.0] * 4 + [0.0] * 6)
