"""Tables of text."""

from __future__ import annotations

from keras_tagger.tables import text_table


def test_the_first_column_is_left_aligned_and_the_others_right() -> None:
    assert text_table([["tag", "clips", ""], ["guitar", "3", ""], ["", "1200", "x"]]) == (
        "tag     clips\nguitar      3\n         1200  x"
    )
