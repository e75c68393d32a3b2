"""HTML from templates: escaping, missing values, the table of notebooks."""

from __future__ import annotations

import base64
import xml.etree.ElementTree as ElementTree

import jinja2
import pytest

from keras_tagger.views.pages import data_uri, render, table


def test_a_table_is_escaped_and_aligned() -> None:
    text = table([("<b>rock & roll</b>", 0.5), ("calm", None)], ["tag", "<i>"], "A & B", "'note'")
    assert "<b>rock" not in text
    root = ElementTree.fromstring(f"<div>{text}</div>")
    assert [cell.text for cell in root.iter("th")] == ["tag", "<i>"]
    assert [cell.text for cell in root.iter("td")] == ["<b>rock & roll</b>", "0.5", "calm", "None"]
    assert [cell.get("style").split(";")[0][12:] for cell in root.iter("td")] == ["left", "right"] * 2
    assert [root.find("p/b").text, root.findall("p")[-1].text] == ["A & B", "'note'"]


def test_parts_that_are_not_given_are_left_out() -> None:
    root = ElementTree.fromstring(f"<div>{table([['a']])}</div>")
    assert [child.tag for child in root] == ["table"]
    assert root.find(".//th") is None


def test_a_value_that_a_template_needs_must_be_given() -> None:
    with pytest.raises(jinja2.UndefinedError, match="caption"):
        render("table.html.j2", rows=[], head=[])


def test_data_uri() -> None:
    kind, content = data_uri("image/png", b"\x00\xff").split(",")
    assert (kind, base64.b64decode(content)) == ("data:image/png;base64", b"\x00\xff")
