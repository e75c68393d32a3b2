"""musicnn rebuilt: input, patches, architecture, labels; with musicnn's wheel, musicnn's own output."""

from __future__ import annotations

import numpy as np
import pytest

import musicnn_wheel
import tiny
from keras_tagger import audio
from keras_tagger.errors import ModelError, ModelNotFoundError
from keras_tagger.teachers import musicnn
from musicnn_wheel import CLIPS, RECORDED, WHEEL, needs_wheel, sigmoid


@pytest.fixture(scope="module")
def random_network():
    return musicnn_wheel.random_network()


@pytest.fixture(scope="module", params=["MTT", "MSD"])
def network(request):
    return musicnn.load_musicnn(WHEEL, request.param)


def slaney_mel(frequencies):
    """Hz to mel of Slaney's Auditory Toolbox: linear up to 1000 Hz, 27 steps per factor 6.4 above."""
    frequencies = np.asarray(frequencies, dtype=np.float64)
    return np.where(
        frequencies < 1000.0,
        frequencies * 3.0 / 200.0,
        15.0 + 27.0 * np.log(np.maximum(frequencies, 1000.0) / 1000.0) / np.log(6.4),
    )


def slaney_hz(mels):
    return np.where(mels < 15.0, mels * 200.0 / 3.0, 1000.0 * 6.4 ** ((mels - 15.0) / 27.0))


def test_log_mel_is_the_textbook_spectrogram():
    waveform = tiny.noise(5000, seed=4)
    padded = np.pad(waveform.astype(np.float64), 256, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512)
    frames = np.stack([padded[start : start + 512] * window for start in range(0, 5001, 256)])
    power = np.abs(np.fft.rfft(frames)) ** 2
    edges = slaney_hz(np.linspace(0.0, slaney_mel(8000.0), 98))
    bins = np.arange(257) * 16000 / 512
    filters = []
    for low, centre, high in zip(edges, edges[1:], edges[2:], strict=False):
        triangle = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
        filters.append(np.maximum(0.0, triangle) * 2.0 / (high - low))
    expected = np.log10(1e4 * (power @ np.array(filters).T) + 1.0)
    found = musicnn.log_mel(waveform)
    assert found.dtype == np.float32
    assert found.shape == (1 + 5000 // 256, 96)
    np.testing.assert_allclose(found, expected, atol=3e-5)  # float32
    assert expected.max() > 2.0


@pytest.mark.parametrize("clip", ["rock_guitar_war", "flute_solo"])
def test_log_mel_is_musicnns(clip):
    with np.load(RECORDED / f"musicnn_{clip}.npz") as recorded:
        expected = recorded["mel"]
    found = musicnn.log_mel(audio.load(CLIPS / f"{clip}.ogg", 16000))[:64]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_long_clips_are_transformed_in_blocks():
    long = tiny.noise(16000 * 140, seed=8)
    found = musicnn.log_mel(long)
    assert len(found) == 1 + len(long) // 256 > 8192
    # The frames around the end of the first block, from audio that begins elsewhere.
    np.testing.assert_allclose(found[8185:8200], musicnn.log_mel(long[8000 * 256 :])[185:200], atol=2e-3)


@pytest.mark.parametrize("n_samples", [1, 2, 255, 256, 257])
def test_a_frame_of_audio_is_enough(n_samples):
    found = musicnn.log_mel(tiny.noise(n_samples))
    assert found.shape == (1 + n_samples // 256, 96)
    assert np.isfinite(found).all()


def test_loud_audio_is_beyond_half_precision_and_finite():
    time = np.arange(16000) / 16000
    found = musicnn.log_mel(np.sin(2 * np.pi * 100.0 * time).astype(np.float32))
    assert np.isfinite(found).all()
    # 10,000 times the mel of a full-scale tone exceeds 65,504, the largest half.
    assert found.max() > np.log10(65504.0)


@pytest.mark.parametrize(
    ("n_frames", "hop_seconds", "expected"),
    [
        (1, 1.0, [0]),
        (187, 1.0, [0]),
        (249, 1.0, [0]),
        (250, 1.0, [0, 63]),
        (187 + 250, 1.0, [0, 63, 125, 188, 250]),
        (187 * 3, musicnn.PATCH_SECONDS, [0, 187, 374]),
        (187 * 3 - 1, musicnn.PATCH_SECONDS, [0, 187]),
        (190, 0.016, [0, 1, 2, 3]),
    ],
)
def test_patches_begin_at_the_frame_nearest_to_multiples_of_the_hop(n_frames, hop_seconds, expected):
    assert musicnn.patch_starts(n_frames, hop_seconds).tolist() == expected


@pytest.mark.parametrize("hop_seconds", [0.0, 0.0159, -1.0, float("nan"), float("inf")])
def test_a_hop_below_a_frame_is_refused(hop_seconds):
    with pytest.raises(ValueError, match=r"hop_seconds of at least 0.016. Received: "):
        musicnn.patch_starts(1000, hop_seconds)


def test_patches_are_the_stretches_that_their_times_say(random_network):
    waveform = tiny.noise(int(6.3 * 16000), seed=2)
    logits, times = random_network.patches(waveform, hop_seconds=1.0, batch_size=3)
    assert logits.dtype == np.float32
    assert logits.shape == (4, 50)
    np.testing.assert_allclose(times, (np.array([0, 63, 125, 188]) + 93) * 0.016, atol=1e-6)
    # The same audio as a clip of its own, but for the two frames that see its edges, gives the same patch.
    frames = musicnn.log_mel(waveform)
    alone = random_network.model(frames[np.newaxis, 125 : 125 + 187], training=False)
    np.testing.assert_allclose(logits[2], np.asarray(alone)[0], atol=1e-4)
    assert np.abs(logits[2] - logits[1]).max() > 0.01


def test_a_clip_shorter_than_a_patch_is_repeated(random_network):
    period = tiny.noise(16000, seed=3)
    logits, times = random_network.patches(period)
    assert logits.shape == (1, 50)
    np.testing.assert_allclose(times, [31 * 0.016], atol=1e-6)  # 63 frames
    frames = musicnn.log_mel(period)
    repeated = np.concatenate([frames, frames, frames])[:187]
    np.testing.assert_allclose(logits[0], random_network.model(repeated[np.newaxis], training=False)[0], atol=1e-4)


def test_size_is_the_published_one():
    model = musicnn.build_model()
    assert model.count_params() == 792_079
    assert model.input_shape == (None, 187, 96)
    assert model.output_shape == (None, 50)


def numpy_musicnn(weights, patch):
    """The paper's network as sums of products, for one patch; `weights` by the checkpoint's names."""

    def norm(x, i):
        scope = f"batch_normalization_{i}" if i else "batch_normalization"
        gamma, beta, mean, variance = (
            weights[f"{scope}/{name}"] for name in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def conv(x, i, before, after):
        """Rows of time; the kernel is slid over time (padded with zeros) and, without padding, over frequency."""
        kernel = weights[f"conv2d_{i}/kernel" if i else "conv2d/kernel"]
        bias = weights[f"conv2d_{i}/bias" if i else "conv2d/bias"]
        kernel = kernel.reshape(kernel.shape[0], -1, kernel.shape[-1])
        x = np.pad(x, ((before, after), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2])
        return np.maximum(np.einsum("tfhw,hwc->tfc", windows, kernel, optimize=True) + bias, 0.0)

    x = norm(patch.astype(np.float64)[..., np.newaxis], 0)[..., 0]
    sides = [(3, 3), (3, 3), (63, 64), (31, 32), (15, 16)]
    front = [norm(conv(x, i, *side), i + 1).max(axis=1) for i, side in enumerate(sides)]
    features = [np.concatenate(front, axis=1)]
    features.append(norm(conv(features[0], 5, 3, 3), 6)[:, 0])
    features.append(norm(conv(features[1], 6, 3, 3), 7)[:, 0] + features[1])
    features.append(norm(conv(features[2], 7, 3, 3), 8)[:, 0] + features[2])
    over_time = np.concatenate(features, axis=1)
    pooled = np.stack([over_time.max(axis=0), over_time.mean(axis=0)], axis=1).ravel()
    x = norm(pooled, 9)
    x = norm(np.maximum(x @ weights["dense/kernel"] + weights["dense/bias"], 0.0), 10)
    return x @ weights["dense_1/kernel"] + weights["dense_1/bias"]


def test_architecture_is_that_of_the_paper(random_network):
    model = random_network.model
    weights = {
        f"{layer.name}/{weight.name}": weight.numpy().astype(np.float64)
        for layer in model.layers
        for weight in layer.weights
    }
    patch = musicnn.log_mel(tiny.noise(187 * 256, seed=5))[:187]
    found = np.asarray(model(patch[np.newaxis], training=False))[0]
    expected = numpy_musicnn(weights, patch)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_two_vocabularies_stand_side_by_side(random_network):
    other = musicnn.Musicnn("MSD", random_network.model)
    teacher = musicnn.MusicnnTeacher(musicnn.prefixed([random_network, other]))
    assert teacher.tags == (*musicnn.TAGS["MTT"], *(f"msd/{tag}" for tag in musicnn.TAGS["MSD"]))
    assert len(set(teacher.tags)) == 100
    waveform = tiny.noise(5 * 16000, seed=6)
    labels = teacher.label(waveform)
    assert (labels.tags, labels.pool) == (teacher.tags, "mean")
    assert (labels.hop_seconds, labels.length_seconds) == (1.536, 2.992)
    np.testing.assert_allclose(labels.values[:, :50], sigmoid(random_network.patches(waveform)[0]), atol=1e-6)
    np.testing.assert_array_equal(labels.values[:, 50:], labels.values[:, :50])


def test_weights_whose_tags_nobody_wants_are_not_run(random_network):
    other = musicnn.Musicnn("MSD", random_network.model)
    teacher = musicnn.MusicnnTeacher(musicnn.prefixed([random_network, other]))
    only = teacher.select(["msd/rock"])
    assert only.names == ("musicnn 0.1.0, MSD",)
    assert only.tags == tuple(f"msd/{tag}" for tag in musicnn.TAGS["MSD"])
    assert teacher.select(["opera", "msd/rock"]).tags == teacher.tags
    assert len({teacher.fingerprint, only.fingerprint, teacher.select(["opera"]).fingerprint}) == 3


def test_a_short_clip_has_one_label_of_its_length(random_network):
    labels = musicnn.MusicnnTeacher({"": random_network}).label(tiny.noise(16000))
    assert labels.values.shape == (1, 50)
    assert labels.length_seconds == 1.0


def test_hidden_values_are_those_that_the_last_layer_makes_tags_of(random_network):
    with_hidden = musicnn.Musicnn("MTT", random_network.model, hidden=True)
    assert with_hidden.tags[:50] == random_network.tags
    assert with_hidden.tags[50:] == tuple(f"hidden/{i:03d}" for i in range(200))
    waveform = tiny.noise(4 * 16000, seed=7)
    logits, _ = with_hidden.patches(waveform, 0.5)
    np.testing.assert_allclose(logits[:, :50], random_network.patches(waveform, 0.5)[0], rtol=1e-5, atol=1e-5)
    kernel, bias = random_network.model.get_layer("dense_1").get_weights()
    np.testing.assert_allclose(logits[:, 50:] @ kernel + bias, logits[:, :50], rtol=1e-4, atol=1e-4)


def test_vocabularies_are_the_published_ones():
    for tags in musicnn.TAGS.values():
        assert len(tags) == len(set(tags)) == 50
    assert musicnn.TAGS["MTT"][:4] + musicnn.TAGS["MTT"][-2:] == (
        *("guitar", "classical", "slow", "techno"),
        *("female voice", "choral"),
    )
    assert musicnn.TAGS["MSD"][17] == "Mellow"


def test_a_vocabulary_of_another_name_is_refused(tmp_path):
    with pytest.raises(ModelError, match="expected one of the vocabularies MTT, MSD. Received: 'jamendo'"):
        musicnn.load_musicnn(tmp_path, "jamendo")


def test_a_wheel_that_is_not_there_or_another_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv(musicnn.WHEEL_VARIABLE, str(tmp_path / "no.whl"))
    with pytest.raises(ModelNotFoundError, match="Received: '.*no.whl'"):
        musicnn.find_wheel()
    (tmp_path / "no.whl").write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"expected the SHA-256 of .*f38a4890c648\.\.\. Received: "):
        musicnn.find_wheel(tmp_path)


@needs_wheel
@pytest.mark.parametrize("clip", ["rock_guitar_war", "flute_solo"])
def test_output_is_musicnns(network, clip):
    with np.load(RECORDED / f"musicnn_{clip}.npz") as recorded:
        expected = recorded[f"taggram_{network.vocabulary}"]
    logits, _ = network.patches(audio.load(CLIPS / f"{clip}.ogg", 16000), musicnn.PATCH_SECONDS)
    assert logits.shape == expected.shape
    np.testing.assert_allclose(sigmoid(logits), expected, atol=1e-3)


@needs_wheel
@pytest.mark.parametrize("clip", ["rock_guitar_war", "flute_solo"])
def test_output_with_overlap_is_musicnns(clip):
    network = musicnn.load_musicnn(WHEEL)
    with np.load(RECORDED / f"musicnn_{clip}.npz") as recorded:
        expected = recorded["taggram_MTT_overlap_1"]
    logits, _ = network.patches(audio.load(CLIPS / f"{clip}.ogg", 16000), hop_seconds=61 * 0.016)
    np.testing.assert_allclose(sigmoid(logits), expected, atol=1e-3)
