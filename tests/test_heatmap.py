"""Heatmap and Attention against hand-made numbers."""

from __future__ import annotations

import base64
import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
import soundfile
from matplotlib.figure import Figure
from matplotlib.image import imread

from keras_tagger import heatmap as heatmap_module
from keras_tagger.attention import Attention, AttentionWindow
from keras_tagger.errors import AudioWarning, ModelError
from keras_tagger.heatmap import Heatmap


def rows(**changes) -> Heatmap:
    fields = {
        "values": [[0.1, 0.2, 0.3, 0.4], [0.8, 0.6, 0.4, 0.2], [0.0, 0.0, 0.5, 0.0]],
        "tags": ["rock", "guitar", "loud"],
        "times": [0.5, 1.5, 2.5, 3.5],
        "method": "contributions",
        "scores": {"guitar": 0.3, "rock": 0.9, "loud": 0.6},
    }
    return Heatmap(**(fields | changes))


def window(start: float, n_new: int, seed: int, tokens: int = 4) -> AttentionWindow:
    weights = np.random.default_rng(seed).random((2, 3, tokens + 1, tokens + 1), dtype=np.float32)
    return AttentionWindow(start, weights / weights.sum(-1, keepdims=True), n_new)


# Heatmap


def test_fields_become_arrays_in_row_order():
    heatmap = rows()
    assert heatmap.values.dtype == np.float32
    assert heatmap.times.dtype == np.float64
    assert heatmap.tags == ("rock", "guitar", "loud")
    np.testing.assert_allclose(heatmap.scores, [0.9, 0.3, 0.6], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"values": np.zeros((3, 5))}, r"shape \(3, 4\).*Received: \(3, 5\)"),
        ({"frequencies": [100.0, 200.0]}, r"shape \(3, 2, 4\).*Received: \(3, 4\)"),
        ({"times": [0.5, 1.5, 1.5, 3.5]}, r"times.*increasing.*1\.5, 1\.5"),
        ({"times": [0.5, 1.5, np.nan, 3.5]}, r"times.*finite.*nan"),
        ({"values": np.zeros((3, 0)), "times": []}, r"times.*shape \(0,\)"),
        ({"values": np.zeros((3, 2, 4)), "frequencies": [200.0, 100.0]}, "frequencies.*increasing"),
        ({"tags": ["rock", "rock", "loud"]}, r"different names.*\['rock'\]"),
        ({"scores": [0.1, 0.2]}, r"one score for each of 3.*\(2,\)"),
        ({"scores": {"rock": 0.1, "loud": 0.2}}, r"no score for \['guitar'\]"),
    ],
)
def test_fields_that_disagree_are_refused(changes, words):
    with pytest.raises(ModelError, match=words):
        rows(**changes)


def test_row_gives_values_and_lists_known_names():
    np.testing.assert_allclose(rows().row("guitar"), [0.8, 0.6, 0.4, 0.2], rtol=1e-6)
    with pytest.raises(ModelError, match=r"rock, guitar, loud\. Received: 'jazz'"):
        rows().row("jazz")


def test_top_ranks_by_score_then_by_mean_value():
    by_score = rows().top(2)
    assert by_score.tags == ("rock", "loud")
    np.testing.assert_allclose(by_score.scores, [0.9, 0.6], rtol=1e-6)
    np.testing.assert_allclose(by_score.values[1], [0, 0, 0.5, 0])
    assert rows(scores=None).top(2).tags == ("guitar", "rock")
    assert rows().top(99).tags == ("rock", "loud", "guitar")
    with pytest.raises(ModelError, match="Received: 0"):
        rows().top(0)


def test_top_ranks_by_margin():
    known = rows(margins=[0.1, np.nan, 0.2])
    best = known.top(2, rank="margin")
    assert best.tags == ("loud", "rock")
    np.testing.assert_allclose(best.margins, [0.2, 0.1], rtol=1e-6)
    np.testing.assert_allclose(best.scores, [0.6, 0.9], rtol=1e-6)
    # A tag that training had no example of is last; the default is as before.
    assert known.top(3, rank="margin").tags[2] == "guitar"
    assert known.top(2).tags == ("rock", "loud")
    assert known.to_dict()["margins"] == [pytest.approx(0.1), None, pytest.approx(0.2)]
    with pytest.raises(ModelError, match="rank: expected 'score' if the thresholds of the tags are unknown"):
        rows().top(1, rank="margin")
    with pytest.raises(ModelError, match="rank: expected score or margin. Received: 'values'"):
        rows().top(1, rank="values")
    with pytest.raises(ModelError, match=r"expected one margin for each of 3 heat map rows. Received: \(2,\)"):
        rows(margins=[0.1, 0.2])


def test_top_ranks_maps_over_frequency():
    values = np.zeros((2, 3, 4))
    values[1, 2] = 1.0
    heatmap = Heatmap(values, ("a", "b"), np.arange(4.0), "gradients", np.array([1.0, 2.0, 3.0]))
    assert heatmap.top(1).tags == ("b",)
    np.testing.assert_array_equal(heatmap.top(1).values[0], values[1])


def test_crop_is_half_open_and_keeps_rows():
    cropped = rows().crop(1.5, 3.5)
    np.testing.assert_array_equal(cropped.times, [1.5, 2.5])
    np.testing.assert_allclose(cropped.values[1], [0.6, 0.4], rtol=1e-6)
    assert cropped.tags == rows().tags
    with pytest.raises(ModelError, match=r"0\.50 to 3\.50 s.*Received: 9 to 10 s"):
        rows().crop(9, 10)


def test_relative_divides_each_row_by_its_largest_magnitude():
    heatmap = Heatmap([[1.0, -4.0], [0.5, 0.25], [0.0, 0.0]], ("a", "b", "c"), [0.0, 1.0], "gradients")
    np.testing.assert_array_equal(heatmap.relative().values, [[0.25, -1], [1, 0.5], [0, 0]])


def test_labels_are_short_names_with_scores():
    assert rows().labels() == ["rock  0.90", "guitar  0.30", "loud  0.60"]
    assert rows(scores=None).labels(4) == ["rock", "gu…r", "loud"]


def test_to_dict_survives_json_with_non_finite_numbers_as_null():
    values = np.array([[0.25, np.nan], [np.inf, 0.5]])
    heatmap = Heatmap(values, ("a", "b"), [0.5, 1.5], "taggram", scores=[0.5, 0.125])
    assert json.loads(json.dumps(heatmap.to_dict(), allow_nan=False)) == {
        "method": "taggram",
        "tags": ["a", "b"],
        "times": [0.5, 1.5],
        "frequencies": None,
        "scores": [0.5, 0.125],
        "margins": None,
        "uniform": None,
        "values": [[0.25, None], [None, 0.5]],
        "warnings": [],
    }


# Drawing


def test_plot_draws_into_given_axes():
    ax = Figure().subplots()
    assert rows().plot(ax) is ax
    assert len(ax.collections) > 0
    over_frequency = Heatmap(np.ones((2, 2, 2)), ("a", "b"), [0, 1], "gradients", [1, 2])
    with pytest.raises(ModelError, match="Received: 2"):
        over_frequency.plot(ax)


def test_save_writes_a_png_and_nothing_else(tmp_path):
    path = rows().save(tmp_path / "new" / "map.png", dpi=50)
    image = imread(path)
    assert image.shape[1] == 500
    assert len(np.unique(image.reshape(-1, 4), axis=0)) > 8
    assert [child.name for child in path.parent.iterdir()] == ["map.png"]
    with pytest.raises(ModelError, match=r"ends in \.png.*map\.jpg"):
        rows().save(tmp_path / "map.jpg")


def test_import_is_light_and_drawing_leaves_pyplot_alone(tmp_path):
    code = (
        "import sys\n"
        "from keras_tagger.heatmap import Heatmap\n"
        "assert 'matplotlib' not in sys.modules and 'tensorflow' not in sys.modules\n"
        f"Heatmap([[1.0, 2.0]], ('a',), [0.0, 1.0], 'x').save({str(tmp_path / 'a.png')!r})\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Notebooks


def test_representations_are_one_line():
    assert repr(rows()) == "Heatmap(contributions: 3 rows, 4 columns, 0.50 to 3.50 s)"
    spectrum = Heatmap(np.ones((1, 2, 1)), ("a",), [1.0], "gradients", [1.0, 2.0])
    assert repr(spectrum) == "Heatmap(gradients: 1 row, 2 bands, 1 column, 1.00 to 1.00 s)"
    first, second = window(0.0, 4, seed=3), window(0.25, 2, seed=4)
    assert repr(second) == "AttentionWindow(2 layers, 3 heads, 4 tokens, 2 new, from 0.25 s)"
    attention = Attention((first, second), hop_seconds=0.1)
    assert repr(attention) == "Attention(2 layers, 3 heads, 6 tokens in 2 windows, 0.05 to 0.60 s)"


def shown(value) -> tuple[np.ndarray, str]:
    """The picture and its alternative text in what a notebook shows."""
    (found,) = re.findall(r'^<img src="data:image/png;base64,([^"]+)" alt="([^"]+)">$', value._repr_html_())
    return imread(io.BytesIO(base64.b64decode(found[0]))), found[1]


def test_a_notebook_shows_the_picture():
    picture, text = shown(rows(method='"<b>"'))
    assert picture.shape[1] == 1000
    assert len(np.unique(picture.reshape(-1, 4), axis=0)) > 8
    assert text == "&quot;&lt;b&gt;&quot;: 3 rows, 4 columns, 0.50 to 3.50 s"
    attention = Attention((window(0.0, 4, seed=1),), hop_seconds=0.1)
    picture, text = shown(attention)
    assert text == "attention: 2 rows, 4 columns, 0.05 to 0.35 s"
    np.testing.assert_array_equal(picture, shown(attention.heatmap("all"))[0])


# Attention


def test_one_window_gives_cls_row_of_last_layer():
    one = window(0.0, 4, seed=1)
    attention = Attention((one,), hop_seconds=0.1)
    np.testing.assert_array_equal(attention.weights, one.weights)
    np.testing.assert_allclose(attention.times, [0.05, 0.15, 0.25, 0.35])

    summed = attention.heatmap()
    assert summed.tags == ("layer 2, all heads",)
    assert summed.method == "attention"
    expected = [sum(one.weights[1, head, 0, key] for head in range(3)) for key in range(1, 5)]
    np.testing.assert_allclose(summed.values, [expected], rtol=1e-6)

    single = attention.heatmap(layer=1, head=-1)
    assert single.tags == ("layer 2, head 3",)
    np.testing.assert_array_equal(single.values[0], one.weights[1, 2, 0, 1:])


def test_earlier_layers_give_column_sums_over_all_queries():
    one = window(0.0, 4, seed=2)
    attention = Attention((one,), hop_seconds=0.1)
    by_hand = [sum(one.weights[0, 1, query, key] for query in range(5)) for key in range(1, 5)]
    np.testing.assert_allclose(attention.heatmap(layer=0, head=1).values, [by_hand], rtol=1e-6)

    both = attention.heatmap("all")
    assert both.tags == ("layer 1, all heads", "layer 2, all heads")
    np.testing.assert_array_equal(both.values[0], attention.heatmap(0).values[0])
    np.testing.assert_array_equal(both.values[1], attention.heatmap(-1).values[0])
    # Softmax rows: all queries and heads together give their number, less what goes to [CLS].
    assert both.values[0].sum() == pytest.approx(15 - one.weights[0, :, :, 0].sum(), rel=1e-6)


def test_uniform_attention_is_flat():
    attention = Attention((AttentionWindow(0.0, np.full((2, 4, 5, 5), 0.2), 4),), hop_seconds=0.1)
    np.testing.assert_allclose(attention.heatmap("all").values, [[4.0] * 4, [0.8] * 4], rtol=1e-6)


def test_windows_are_stitched_from_their_new_tokens():
    first, second = window(0.0, 4, seed=3), window(0.25, 2, seed=4)
    attention = Attention((first, second), hop_seconds=0.1, offset_seconds=0.02)
    np.testing.assert_allclose(attention.times, [0.02, 0.12, 0.22, 0.32, 0.47, 0.57])
    expected = np.concatenate([first.weights[1, 0, 0, 1:], second.weights[1, 0, 0, 3:]])
    heatmap = attention.heatmap(head=0)
    np.testing.assert_array_equal(heatmap.values[0], expected)
    np.testing.assert_array_equal(heatmap.times, attention.times)
    columns = np.concatenate([first.weights[0].sum((0, 1))[1:], second.weights[0].sum((0, 1))[3:]])
    np.testing.assert_allclose(attention.heatmap(0).values[0], columns, rtol=1e-6)
    with pytest.raises(ModelError, match=r"use \.windows.*Received: 2 windows"):
        _ = attention.weights


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"layer": 2}, r'layer from -2 to 1 or "all"\. Received: 2'),
        ({"layer": -3}, "Received: -3"),
        ({"layer": "last"}, "Received: 'last'"),
        ({"head": 3}, "head from -3 to 2 or None. Received: 3"),
        ({"head": 0.5}, "Received: 0.5"),
    ],
)
def test_indexes_outside_the_model_are_refused(arguments, words):
    with pytest.raises(ModelError, match=words):
        Attention((window(0.0, 4, seed=1),), hop_seconds=0.1).heatmap(**arguments)


@pytest.mark.parametrize(
    ("weights", "n_new", "words"),
    [
        (np.zeros((3, 5, 5)), 1, r"Received: \(3, 5, 5\)"),
        (np.zeros((2, 3, 5, 4)), 1, r"Received: \(2, 3, 5, 4\)"),
        (np.zeros((2, 3, 1, 1)), 1, r"Received: \(2, 3, 1, 1\)"),
        (np.zeros((2, 3, 5, 5)), 5, "1 to 4 new tokens. Received: 5"),
        (np.zeros((2, 3, 5, 5)), 0, "Received: 0"),
    ],
)
def test_windows_of_impossible_shape_are_refused(weights, n_new, words):
    with pytest.raises(ModelError, match=words):
        AttentionWindow(0.0, weights, n_new)


def test_windows_that_do_not_fit_together_are_refused():
    other = AttentionWindow(0.4, np.zeros((1, 3, 5, 5)), 4)
    with pytest.raises(ModelError, match=r"Received: \[\(1, 3\), \(2, 3\)\]"):
        Attention((window(0.0, 4, seed=1), other), hop_seconds=0.1)
    with pytest.raises(ModelError, match="increasing"):
        Attention((window(0.0, 4, seed=1), window(0.1, 4, seed=2)), hop_seconds=0.1)
    with pytest.raises(ModelError, match=r"Received: \[\]"):
        Attention((), hop_seconds=0.1)


def test_warnings_stay_with_the_map():
    warning = AudioWarning("silent", "'a.wav' is silent.")
    heatmap = Heatmap([[0.25, 0.5]], ("a",), [0.5, 1.5], "taggram", warnings=(warning,))
    assert heatmap.top(1).crop(0, 1).relative().warnings == (warning,)
    assert heatmap.to_dict()["warnings"] == [{"kind": "silent", "message": "'a.wav' is silent."}]
    attention = Attention((AttentionWindow(0.0, np.ones((1, 1, 3, 3)), 2),), 1.0, warnings=(warning,))
    assert attention.heatmap().warnings == (warning,)


# Pictures, files and players


TONE = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(4 * 16000) / 16000)).astype(np.float32)


def of_tone(**changes) -> Heatmap:
    return rows(audio=(TONE, 16000), margins=[1.0, -0.5, np.nan], **changes)


def document_in(html: str) -> dict:
    """The clip document in a notebook's frame."""
    page = unescape(re.search(r'srcdoc="([^"]*)"', html)[1])
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', page, re.DOTALL)[1])


def test_a_plot_is_a_picture_in_a_notebook():
    ax = rows().plot()
    assert imread(io.BytesIO(ax._repr_png_())).shape[1] == 1000
    over_frequency = Heatmap(np.ones((2, 3, 4)), ("a", "b"), np.arange(4.0), "gradients", [1, 2, 3])
    assert over_frequency.plot()._repr_png_()[1:4] == b"PNG"


def test_plot_takes_colours_size_and_a_spectrogram_with_its_hertz():
    ax = of_tone().plot(cmap="magma", figsize=(6, 3), spectrogram=True)
    assert ax.collections[0].cmap.name == "magma"
    assert ax.figure.get_size_inches().tolist() == [6, 3]
    below = ax.figure.axes[1]
    assert (below.get_ylabel(), below.get_xlabel(), ax.get_xlabel()) == ("frequency (Hz)", "time (s)", "")
    assert below.get_xlim() == ax.get_xlim()
    mesh = below.collections[0]
    bands = mesh.get_coordinates()[:, 0, 1]
    loudest = mesh.get_array().mean(axis=1).argmax()
    assert bands[loudest] < 1000 < bands[loudest + 1]
    with pytest.raises(ModelError, match="a map that knows its audio"):
        rows().plot(spectrogram=True)
    with pytest.raises(ModelError, match="no ax with spectrogram or figsize"):
        of_tone().plot(Figure().subplots(), spectrogram=True)


def test_attention_is_drawn_in_multiples_of_uniform_on_one_scale():
    near = Heatmap([[0.1, 0.102, 0.098]], ("layer 1",), [0.5, 1.5, 2.5], "attention", uniform=[0.1])
    ax = near.plot()
    mesh, bar = ax.collections[0], ax.figure.axes[1]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (1 / 8, 8)
    np.testing.assert_allclose(mesh.get_array(), [[1.0, 1.02, 0.98]], rtol=1e-5)
    assert abs(mesh.norm(1.0) - 0.5) < 1e-9
    assert "uniform" in [label.get_text() for label in bar.get_yticklabels()]
    # Nearly uniform attention has nearly the neutral colour everywhere.
    assert np.ptp(mesh.to_rgba(mesh.get_array())[..., :3]) < 0.05
    unknown = Heatmap([[0.1, 0.3, 0.2]], ("attention",), [0.5, 1.5, 2.5], "attention").plot()
    np.testing.assert_allclose(unknown.collections[0].get_array(), [[0.5, 1.5, 1.0]], rtol=1e-5)
    assert "mean" in [label.get_text() for label in unknown.figure.axes[1].get_yticklabels()]


def test_uniform_attention_is_known():
    attention = Attention((AttentionWindow(0.0, np.full((2, 4, 5, 5), 0.2), 4),), hop_seconds=0.1)
    for heatmap in (attention.heatmap("all"), attention.heatmap("all").relative(), attention.heatmap(0, head=1)):
        np.testing.assert_allclose(heatmap.values, np.repeat(heatmap.uniform[:, np.newaxis], 4, axis=1), rtol=1e-6)
    assert attention.heatmap("all").top(1).uniform.shape == (1,)


@pytest.mark.parametrize(
    ("suffix", "start"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF"), ("html", b"<!doctype html>")]
)
def test_save_writes_what_the_suffix_says(suffix, start, tmp_path):
    path = of_tone().save(tmp_path / "new" / f"map.{suffix}", **({} if suffix == "html" else {"spectrogram": True}))
    assert path.read_bytes().startswith(start)
    if suffix == "svg":
        assert "guitar" in path.read_text()  # as text, which programs for papers can edit
        assert path.read_bytes() == of_tone().save(tmp_path / "again.svg", spectrogram=True).read_bytes()


def test_save_writes_numbers(tmp_path):
    heatmap = of_tone(uniform=[1.0, 1.0, 1.0])
    with np.load(heatmap.save(tmp_path / "map.npz")) as stored:
        assert set(stored.files) == {"values", "tags", "times", "method", "scores", "margins", "uniform"}
        np.testing.assert_array_equal(stored["values"], heatmap.values)
    assert json.loads(heatmap.save(tmp_path / "map.json").read_text()) == heatmap.to_dict()
    with pytest.raises(ModelError, match=r"cmap with \.png, \.svg, \.pdf\. Received"):
        heatmap.save(tmp_path / "map.json", cmap="magma")
    with pytest.raises(ModelError, match="a map that knows its audio"):
        rows().save(tmp_path / "map.html")


def test_a_notebook_shows_the_player():
    document = document_in(of_tone()._repr_html_())
    assert (document["name"], document["seconds"]) == ("clip", 4.0)
    assert document["audio"]["url"].startswith("data:audio/ogg;base64,")
    (shown_map,) = document["maps"]
    assert (shown_map["rows"], shown_map["values"]["shape"]) == (["rock", "guitar", "loud"], [3, 4])
    assert shown_map["about"] == "Each tag's probability if the last layer attended to one moment only."
    assert document["tags"][0] == {"name": "rock", "score": pytest.approx(0.9), "heard": True, "present": True}
    assert [(tag["heard"], tag["present"]) for tag in document["tags"][1:]] == [(True, False), (False, False)]


def test_the_player_of_a_crop_has_its_part_of_the_audio():
    document = document_in(of_tone().crop(1.0, 3.0)._repr_html_())
    assert (document["seconds"], document["maps"][0]["first"]) == (2.0, 0.0)
    assert document["name"] == "clip, from 1.0 s"


def test_the_player_of_a_map_over_frequency_has_its_bands():
    heatmap = Heatmap(np.ones((1, 64, 8)), ("a",), np.arange(8) / 2 + 0.25, "occlusion", np.arange(1, 65) * 100.0)
    document = document_in(replace(heatmap, audio=(TONE, 16000))._repr_html_())
    assert document["spectrogram"]["hz"] == (np.arange(1, 65) * 100.0).tolist()
    assert document["maps"][0]["values"]["shape"] == [1, 8, 64]
    # A map of few bands is drawn over a finer spectrogram.
    coarse = replace(heatmap, values=np.ones((1, 2, 8)), frequencies=[1000.0, 5000.0], audio=(TONE, 16000))
    document = document_in(coarse._repr_html_())
    assert document["maps"][0]["values"]["shape"] == [1, 8, len(document["spectrogram"]["hz"])]


def test_without_its_audio_a_map_is_a_picture(tmp_path):
    soundfile.write(tmp_path / "a.wav", TONE, 16000)
    heatmap = rows(audio=tmp_path / "a.wav")
    assert document_in(heatmap._repr_html_())["name"] == "a.wav"
    (tmp_path / "a.wav").unlink()
    assert heatmap._repr_html_().startswith("<img ")
    assert rows(audio=io.BytesIO(b"")).audio is None
    long = Heatmap([[1.0, 2.0]], ("a",), [300.0, 1000.0], "made", audio=(TONE, 16000))
    assert long._repr_html_().startswith("<img ")


def test_attention_of_several_windows_is_one_player():
    windows = (window(0.0, 4, seed=1), window(0.2, 2, seed=2))
    attention = Attention(windows, hop_seconds=0.1, audio=(TONE[:9600], 16000))
    document = document_in(attention._repr_html_())
    heads, query = document["maps"]
    assert (heads["layers"], heads["heads"], heads["uniform"]) == (2, 3, 0.2)
    values = np.frombuffer(base64.b64decode(heads["values"]["data"]), "<u2").reshape(heads["values"]["shape"])
    low, high = heads["values"]["range"]
    expected = np.concatenate([windows[0].weights[:, :, 0, 1:], windows[1].weights[:, :, 0, 3:]], axis=-1).reshape(6, 6)
    np.testing.assert_allclose(low + values / 65535 * (high - low), expected, atol=1e-4)
    assert (query["values"]["shape"], query["starts"]) == ([2, 6, 4], [0, 0, 0, 0, 2, 2])


def test_attention_is_still_found_where_it_was():
    with pytest.warns(DeprecationWarning, match=r"use keras_tagger\.attention\.Attention"):
        assert heatmap_module.Attention is Attention
    with pytest.warns(DeprecationWarning, match=r"use keras_tagger\.attention\.AttentionWindow"):
        assert heatmap_module.AttentionWindow is AttentionWindow
    with pytest.raises(AttributeError, match="has no attribute 'Attentive'"):
        heatmap_module.Attentive  # noqa: B018
