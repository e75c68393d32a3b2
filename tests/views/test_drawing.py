"""Drawing of maps: time and frequency axes, colours, labels and thinning, read from matplotlib's own objects."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from keras_tagger.heatmap import Heatmap
from keras_tagger.views.drawing import column_edges, shorten


@pytest.mark.parametrize(
    ("name", "limit", "expected"),
    [
        ("rock", 4, "rock"),
        ("abcdefghij", 10, "abcdefghij"),
        ("abcdefghij", 9, "abcd…ghij"),
        ("abcdefghij", 8, "abcd…hij"),
        # No space beside the ellipsis.
        ("one two three", 9, "one…hree"),
        ("abcdefgh ijk", 9, "abcd…ijk"),
    ],
)
def test_long_names_lose_their_middle(name, limit, expected):
    assert shorten(name, limit) == expected


def test_edges_lie_halfway_between_centres():
    np.testing.assert_allclose(column_edges(np.array([1.0, 2.0, 4.0])), [0.5, 1.5, 3.0, 5.0])
    np.testing.assert_allclose(column_edges(np.array([-2.0])), [-2.5, -1.5])


def test_plot_spans_the_true_time_of_uneven_columns():
    values = [[0.1, 0.2, 0.3, 0.4], [0.8, 0.6, 0.4, 0.2], [0.0, 0.0, 0.5, 0.0]]
    tags, scores = ("rock", "guitar", "loud"), (0.9, 0.3, 0.6)
    ax = Heatmap(values, tags, [0.5, 1.5, 2.5, 4.5], "contributions", scores=scores).plot()
    mesh = ax.collections[0]
    np.testing.assert_allclose(mesh.get_coordinates()[0, :, 0], [0, 1, 2, 3.5, 5.5])
    assert ax.get_xlim() == (0.0, 5.5)
    assert ax.get_xlabel() == "time (s)"
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "rock  0.90",
        "guitar  0.30",
        "loud  0.60",
    ]
    top_of_first, bottom_of_last = ax.transData.transform([(0, 0), (0, 3)])[:, 1]
    assert top_of_first > bottom_of_last
    np.testing.assert_allclose(mesh.get_array()[1], [0.8, 0.6, 0.4, 0.2], rtol=1e-6)
    assert (mesh.norm.vmin, mesh.norm.vmax) == (0.0, pytest.approx(0.8))
    assert "contributions" in [other.get_ylabel() for other in ax.figure.axes]


def test_plot_of_one_column_starts_at_zero():
    assert Heatmap([[0.5]], ("a",), [4.0], "taggram").plot().get_xlim() == (0.0, 8.0)


def test_plot_averages_columns_beyond_the_screen():
    times = np.arange(2500) + 0.5
    mesh = Heatmap(times[None], ("a",), times, "taggram").plot().collections[0]
    drawn = mesh.get_array()[0]
    assert len(drawn) == 834
    np.testing.assert_allclose(drawn[:2], [1.5, 4.5])
    assert drawn[-1] == 2499.5
    np.testing.assert_allclose(mesh.get_coordinates()[0, [0, 1, -2, -1], 0], [0, 3, 2499, 2500])


def test_plot_grows_with_rows_so_that_names_do_not_overlap():
    n = 50
    ax = Heatmap(np.ones((n, 2)), [f"tag ${i}$" for i in range(n)], [0.5, 1.5], "contributions").plot()
    ax.figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_yticklabels()]
    assert len(boxes) == n
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= 0


def test_plot_over_frequency_has_a_panel_a_row_in_hz_spaced_in_mels():
    frequencies = np.array([50.0, 500.0, 1000.0, 4000.0, 7800.0])
    values = np.arange(30.0).reshape(2, 5, 3)
    top = Heatmap(values, ("a", "b"), [0.5, 1.5, 2.5], "gradients", frequencies).plot()
    panels = [ax for ax in top.figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in panels] == ["a", "b"]
    assert [label.get_text() for label in top.get_yticklabels()] == ["100", "500", "1k", "2k", "4k", "8k"]
    np.testing.assert_array_equal(panels[1].collections[0].get_array(), values[1])
    # 1 kHz is 1000 mel and 8 kHz 2840 mel (HTK): the axis goes from 0 Hz to the edge above 7800 Hz.
    low, middle, high = top.transAxes.inverted().transform(top.transData.transform([(0, 0), (0, 1000), (0, 9700)]))[
        :, 1
    ]
    assert low == pytest.approx(0)
    assert high == pytest.approx(1)
    assert middle == pytest.approx(1000 / (2595 * np.log10(1 + 9700 / 700)), abs=1e-4)


def test_plot_of_signed_values_is_symmetric_about_zero():
    mesh = Heatmap([[1.0, -4.0]], ("a",), [0.0, 1.0], "gradients").plot().collections[0]
    assert (mesh.norm.vmin, mesh.norm.vmax) == (-4, 4)


def test_plot_of_nothing_finite_does_not_fail():
    ax = Heatmap(np.full((1, 3), np.nan), ("a",), [0, 1, 2], "taggram").plot()
    ax.figure.draw_without_rendering()
    assert ax.collections[0].norm.vmax == 1.0
