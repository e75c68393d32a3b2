"""The import rule: rooms import downwards only, and nothing in circles."""

from __future__ import annotations

from pathlib import Path

import pytest

import import_rule


def test_the_package_keeps_the_rule():
    edges = import_rule.graph()
    assert import_rule.circles(edges) == []
    assert import_rule.room_circles(edges) == []
    assert import_rule.climbing(edges) == []


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package whose modules break the rule, each in its way."""
    files = {
        "__init__.py": "",
        "errors.py": "def late():\n    from house.tagger import Tagger\n",
        "tagger.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from house.models import body\n",
        "models/__init__.py": "",
        "models/body.py": "import house.models.head\n",
        "models/head.py": "from house.models import body\n",
    }
    for name, text in files.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "house"


def test_an_import_inside_a_function_climbs(package):
    edges = import_rule.graph(package)
    assert import_rule.climbing(edges) == ["errors:2 imports tagger"]


def test_two_modules_that_import_each_other_are_a_circle(package):
    assert import_rule.circles(import_rule.graph(package)) == [["models.body", "models.head"]]


def test_an_import_for_types_only_counts(package):
    assert import_rule.graph(package)["tagger"] == {"models.body": 3}


def test_a_module_without_a_room_is_an_error():
    with pytest.raises(ValueError, match=r"expected a room of LEVELS\. Received: 'attic'"):
        import_rule.level("attic")
