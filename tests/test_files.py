"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_tagger.audio import load
from keras_tagger.errors import AudioNotFoundError
from keras_tagger.files import (
    hidden_folder,
    other_form,
    printable,
    replacing,
    to_bytes,
    to_text,
    utf8_path,
    version_number,
    write_csv,
    write_json,
    write_text,
)


def test_a_file_is_replaced_at_the_end_of_the_block(tmp_path: Path) -> None:
    target = tmp_path / "new" / "scores.csv"
    with replacing(target) as temporary:
        temporary.write_text("first")
        assert (temporary.parent, temporary.suffix, temporary.name[0]) == (target.parent, ".csv", ".")
        assert not target.exists()
    with replacing(target) as temporary:
        temporary.write_text("second")
        assert target.read_text() == "first"
    assert target.read_text() == "second"
    assert os.listdir(target.parent) == ["scores.csv"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def interrupted() -> None:
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_text_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "naïve 音\n")
    assert (tmp_path / "a.txt").read_bytes() == "naïve 音\n".encode()


def test_bytes_that_are_not_utf8_survive_a_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", os.fsdecode(b"caf\xe9\r\n"))
    assert (tmp_path / "a.txt").read_bytes() == b"caf\xe9\r\n"
    assert to_bytes(to_text(b"caf\xe9 \xc3\xa9")) == b"caf\xe9 \xc3\xa9"


@pytest.mark.parametrize("cell", ["a\rb", "a\nb", "\r\n", 'a"b', "a,b", " a", "", os.fsdecode(b"\xe9")], ids=ascii)
def test_a_cell_survives_a_table(tmp_path: Path, cell: str) -> None:
    write_csv(tmp_path / "a.csv", ("one", "two"), [{"one": cell, "two": 3}, {"one": "plain"}])
    with open(tmp_path / "a.csv", encoding="utf-8", errors="surrogateescape", newline="") as file:
        assert list(csv.reader(file)) == [["one", "two"], [cell, "3"], ["plain", ""]]


def test_a_table_is_plain_where_it_can_be(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ("one", "two"), [{"one": "a b", "two": 0.5}])
    assert (tmp_path / "a.csv").read_bytes() == b"one,two\na b,0.5\n"


def test_a_long_name_has_a_hidden_sibling_that_fits(tmp_path: Path) -> None:
    name = "n" * 250 + ".json"
    write_json(tmp_path / name, 1)
    assert os.listdir(tmp_path) == [name]


def test_people_see_escapes() -> None:
    assert printable(os.fsdecode(b"caf\xe9")) == r"caf\xe9"
    assert printable("a\nb\t\x1b[31m\x7f") == r"a\nb\t\x1b[31m\x7f"
    assert printable("\u202egpj.\u2028\ud800") == r"\u202egpj.\u2028\ud800"
    # Letters of any script, combining accents and joined emoji are text.
    for text in ("naïve 音", "cafe\u0301", "\u05e9\u05d9\u05e8", "\U0001f468\u200d\U0001f469", "<b> & '\"\\"):
        assert printable(text) == text


def test_a_folder_that_is_not_utf8_has_a_path_that_is(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"\xe9")
    folder.mkdir()
    with utf8_path(folder) as path:
        str(path).encode("utf-8")
        (path / "a").touch()
    assert os.listdir(folder) == ["a"]
    assert not path.exists()
    with utf8_path(tmp_path) as path:
        assert path == tmp_path


def test_a_missing_name_may_exist_in_another_unicode_form(tmp_path: Path) -> None:
    composed, decomposed = str(tmp_path / "caf\u00e9.ogg"), str(tmp_path / "cafe\u0301.ogg")
    assert other_form(composed) == other_form(decomposed) == ""
    Path(decomposed).touch()
    assert other_form(composed) == " (a file of that name in Unicode form NFD does)"
    with pytest.raises(AudioNotFoundError, match=r"does not exist \(a file of that name in Unicode form NFD does\)\."):
        load(composed)


def test_json_is_readable_and_keeps_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.ogg")
    write_json(tmp_path / "a.json", {"naïve": [name]}, indent=1)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text == '{\n "naïve": [\n  "caf\\udce9.ogg"\n ]\n}\n'
    assert os.fsencode(json.loads(text)["naïve"][0]) == b"caf\xe9.ogg"


def test_a_hidden_folder_is_renamed_or_removed(tmp_path: Path) -> None:
    with hidden_folder(tmp_path / "base", "export") as temporary:
        (temporary / "x").write_text("1")
        assert temporary.name.startswith(".export-")
        os.rename(temporary, tmp_path / "base" / "1")
    assert (tmp_path / "base" / "1").stat().st_mode & 0o777 == 0o755

    def interrupted() -> None:
        with hidden_folder(tmp_path / "base", "export") as temporary:
            (temporary / "x").write_text("1")
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert os.listdir(tmp_path / "base") == ["1"]


_HOLD = """
import pathlib, sys
from keras_tagger.files import hidden_folder
with hidden_folder(sys.argv[1], "export") as folder:
    (folder / "saved_model.pb").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as killed, subprocess.Popen(command, **pipes) as living:
        folders = [Path(process.stdout.readline().strip()) for process in (killed, living)]
        killed.kill()
        killed.wait()
        (tmp_path / ".import-x").mkdir()
        with hidden_folder(tmp_path, "export") as own:
            assert sorted(tmp_path.iterdir()) == sorted([folders[1], own, tmp_path / ".import-x"])
        assert (folders[1] / "saved_model.pb").exists()


@pytest.mark.parametrize(
    ("name", "number"),
    [("1", 1), ("0", 0), ("007", 7), (str(2**63 - 1), 2**63 - 1), (str(2**63), None)]
    + [(name, None) for name in ("", "-1", "1.5", "v1", "٣", "²", ".export-1")],
)
def test_version_numbers(name: str, number: int | None) -> None:
    assert version_number(name) == number
