"""The documentation builds without warnings, and what it names exists."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import config_reference
import docs_include
import pytest

import import_rule
from keras_tagger.cli.app import parse

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "serving" / "README.md",
    ROOT / "tools" / "pretrain" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
IMAGES = ROOT / "docs" / "images"
MAX_IMAGE_BYTES = 200_000


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(page: Path) -> list[list[str]]:
    """The words of every command in a page's blocks of bash and sh, continued lines joined."""
    found = []
    for block in re.findall(r"^ *```(?:bash|sh)\n(.*?)^ *```", page.read_text("utf-8"), re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            # In loops and functions of the shell only their lines count; their variables are not known here.
            if line.strip() and "$" not in line:
                found.append(shlex.split(line, comments=True))
    return [words for words in found if words]


@pytest.mark.guides
def test_the_site_builds_without_warnings():
    """In build/site, to be looked at after `make docs`."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    site = ROOT / "build" / "site"
    pages = {path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")}
    assert {".", "guides/fit", "guides/serve", "guides/explain", "gallery", "reference/configuration"} <= pages
    reference = (site / "reference" / "keras_tagger" / "index.html").read_text("utf-8")
    for public in ("fit", "load", "Tagger", "Tagger.tag", "Tags", "Heatmap", "Report", "compare", "open_dataset"):
        assert f'id="keras_tagger.{public}"' in reference
    # Nothing is loaded from another host when a page is read.
    loaded = re.findall(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(https?://[^"]*)"', reference)
    assert loaded == []


def test_the_configuration_reference_is_current():
    assert config_reference.PAGE.read_text("utf-8") == config_reference.page()


def test_every_key_is_described():
    for key, section in config_reference.sections(config_reference.ExperimentConfig):
        rows = config_reference.table(key, section).splitlines()[2:]
        assert [row for row in rows if row.endswith("|  |")] == []


def test_types_are_words():
    assert config_reference.allowed(tuple[int, ...]) == "list of integers"
    assert config_reference.allowed(bool) == "`true`, `false`"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_links_of_included_files_lead_to_the_same_page_of_the_site(tmp_path, monkeypatch):
    (tmp_path / "docs" / "guides").mkdir(parents=True)
    (tmp_path / "serving").mkdir()
    (tmp_path / "docs" / "run.md").write_text('--8<-- "serving/README.md"\n')
    (tmp_path / "docs" / "guides" / "fit.md").write_text("# Fit\n")
    (tmp_path / "serving" / "README.md").write_text(
        "[a](../docs/guides/fit.md#data), [b](README.md), [c](compose.yaml), [d](https://example.com)"
    )
    monkeypatch.setattr(docs_include, "ROOT", tmp_path)
    monkeypatch.setattr(docs_include, "DOCS", tmp_path / "docs")
    expected = "[a](guides/fit.md#data), [b](run.md), c, [d](https://example.com)\n"
    assert docs_include.included('--8<-- "serving/README.md"\n') == expected
    expected = "[a](fit.md#data), [b](../run.md), c, [d](https://example.com)\n"
    assert docs_include.included('--8<-- "serving/README.md"\n', Path("guides")) == expected


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_ones_that_exist(page):
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(page):
        if words[0] == "keras-tagger":
            parse(list(itertools.takewhile(lambda word: word not in ("&", "<"), words[1:])))
        elif words[0] == "python" and words[1] == "-m" and words[2].startswith("pretrain."):
            assert (ROOT / "tools" / f"{words[2].replace('.', '/')}.py").exists(), words
        elif words[0] == "python" and words[1] != "-m":
            assert (ROOT / words[1]).exists(), words
        elif words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_exist(page):
    text = page.read_text("utf-8")
    for path in re.findall(r"`((?:keras_tagger|tools|tests|configs|presets)/[\w./-]*\.(?:py|yaml|md))`", text):
        if "PRESET" not in path:
            assert (ROOT / path).exists() or (ROOT / "keras_tagger" / path).exists(), path


def test_pictures_are_small_and_shown():
    shown = set(re.findall(r"images/([\w.-]+\.(?:png|webp))", "".join(page.read_text("utf-8") for page in PAGES)))
    assert {path.name for path in IMAGES.iterdir()} == shown
    assert all(path.stat().st_size < MAX_IMAGE_BYTES for path in IMAGES.iterdir())


def test_the_table_of_rooms_is_that_of_the_import_rule():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    cells = re.findall(r"^\| ((?:`[\w./]+`(?:, )?)+)", text.split("## The rooms")[1].split("\n## ")[0], re.MULTILINE)
    named = [re.sub(r"\.py$|/$", "", path).replace("/", ".") for cell in cells for path in re.findall(r"`(.*?)`", cell)]
    rooms = ["" if room == "keras_tagger" else room for room in named]
    assert set(rooms) == {room for level in import_rule.LEVELS for room in level} - {"__main__"}
    levels = [import_rule.level(room) for room in rooms]
    assert levels == sorted(levels)
