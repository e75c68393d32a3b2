"""What users type: folders, playlists and standard input, and how results are written."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
import threading
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keras_tagger.cli import main
from keras_tagger.errors import AudioError, AudioWarning
from keras_tagger.tags import Tags

WARNING = AudioWarning("silent", "'quiet.wav' is silent.")


class ScriptedTagger:
    """Answers without decoding: "bad" files with an error, "quiet" ones with a warning."""

    def tag_files(self, sources: Iterable[Any], top: int, merge_synonyms: bool, rank: str) -> Iterator[tuple[Any, Any]]:
        for source in sources:
            name = str(getattr(source, "name", source))
            if "bad" in name:
                yield source, AudioError(f"Expected audio. Received: {name!r}.")
                continue
            tags = Tags(("low", "high"), np.array([0.75, 0.25], np.float32), np.array([True, False]), np.ones(2, bool))
            if "quiet" in name:
                tags.__dict__["warnings"] = (WARNING,)
            yield source, tags


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The working directory, with a scripted tagger."""
    monkeypatch.setattr("keras_tagger.tagger.load", lambda model: ScriptedTagger())
    monkeypatch.chdir(tmp_path)
    for name in ("album/2.flac", "album/1.mp3", "album/@eaDir/1.mp3", "album/cover.jpg", "a.wav", "bad.ogg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "mix.m3u").write_text("bad.ogg\nalbum/2.flac\nhttp://example.com/b.mp3\n")
    return tmp_path


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch, clip: Path) -> None:
    """A clip on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(clip.read_bytes())))


ORDER = ["album/1.mp3", "album/2.flac", "bad.ogg", "album/2.flac", "http://example.com/b.mp3", "-", "a.wav", "a.wav"]
BAD = "Expected audio. Received: 'bad.ogg'."
WEB = "Expected files in the playlist 'mix.m3u'. Received: 'http://example.com/b.mp3', which must be downloaded first."
TEXT = "".join(
    f"{name}\n  low   0.750 *\n  high  0.250\n" for name in ORDER if "b.mp3" not in name and "bad" not in name
)
ROWS = [
    {"file": name, "error": BAD if "bad" in name else WEB}
    if "bad" in name or "http" in name
    else {"file": name, "tags": {"low": 0.75, "high": 0.25}, "present": ["low"], "unheard": [], "warnings": []}
    for name in ORDER
]
WORDS = ("tag", "album", "mix.m3u", "-", "a.wav", "a.wav")


def csv_rows(text: str) -> list[list[str]]:
    return [
        [row["file"], row["tag"], row["score"], row["present"], row["unheard"]]
        for row in csv.DictReader(io.StringIO(text))
    ]


@pytest.mark.usefixtures("stdin")
@pytest.mark.parametrize(
    ("flags", "read", "expected"),
    [
        ((), str, TEXT),
        (("--format", "table"), str, TEXT),
        (("--format", "json"), json.loads, ROWS),
        (("--format", "jsonl"), lambda text: [json.loads(line) for line in text.splitlines()], ROWS),
        (("--json",), lambda text: [json.loads(line) for line in text.splitlines()], ROWS),
        (("--csv",), csv_rows, None),
        (("--format", "csv"), csv_rows, None),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("output", [False, True], ids=["printed", "written"])
def test_files_folders_playlists_and_standard_input(call, scripted, flags, read, expected, output) -> None:
    words = (*WORDS, *flags, *(("--output", "new/out") if output else ()))
    status, out, err = call(*words)
    assert (status, err) == (1, f"keras-tagger: {BAD}\nkeras-tagger: {WEB}\n")
    if output:
        assert out == ""
        out = Path("new/out").read_text("utf-8")
    if expected is None:
        good = [name for name in ORDER if "bad" not in name and "http" not in name]
        expected = [
            row for name in good for row in ([name, "low", "0.750000", "1", "0"], [name, "high", "0.250000", "0", "0"])
        ]
    assert read(out) == expected


@pytest.mark.parametrize("name", ["x.csv", "x.json", "x.jsonl", "x.NDJSON", "x.txt", "x"])
def test_the_ending_of_the_output_is_its_format(call, scripted, name) -> None:
    form = {"x.csv": "csv", "x.json": "json", "x.jsonl": "jsonl", "x.NDJSON": "jsonl"}.get(name, "table")
    assert call("tag", "a.wav", "--output", name)[0] == 0
    assert Path(name).read_text() == call("tag", "a.wav", "--format", form)[1]
    # What is asked for wins, and an older file is replaced.
    assert call("tag", "a.wav", "--output", name, "--format", "csv")[0] == 0
    assert Path(name).read_text() == call("tag", "a.wav", "--csv")[1]


@pytest.mark.parametrize(
    "flags", [("--json", "--csv"), ("--format", "csv", "--json"), ("--format", "xml")], ids=" ".join
)
def test_one_format_at_a_time(call, flags) -> None:
    status, _, err = call("tag", "a.wav", *flags)
    assert status == 2
    assert "argument" in err


@pytest.mark.parametrize(
    ("words", "output"),
    [
        (("a.wav",), "a.wav"),
        (("a.wav",), "album/../a.wav"),
        (("album",), "album/2.flac"),
        (("mix.m3u",), "album/2.flac"),
        (("mix.m3u",), "mix.m3u"),
        (("a.wav",), "link.csv"),
        (("a.wav",), "hard.csv"),
    ],
    ids=str,
)
@pytest.mark.parametrize("command", ["tag", "request"])
def test_an_input_is_never_overwritten(call, scripted, command, words, output) -> None:
    Path("a.wav").write_text("music")
    Path("link.csv").symlink_to("a.wav")
    Path("hard.csv").hardlink_to("a.wav")
    before = Path(output).read_bytes()
    status, out, err = call(command, *words, "--output", output)
    message = f"keras-tagger: --output: expected a file that is not an input. Received: {output!r}.\n"
    assert (status, out, err) == (1, "", message)
    assert Path(output).read_bytes() == before


def test_mistakes_leave_an_older_output_alone(call, scripted, monkeypatch) -> None:
    Path("out.csv").write_text("older")
    monkeypatch.undo()
    os.chdir(scripted)
    status, _, err = call("tag", "a.wav", "--model", "absent", "--output", "out.csv")
    assert (status, Path("out.csv").read_text()) == (1, "older")
    assert "'absent', which does not exist" in err


@pytest.mark.parametrize("name", ["nothing", "empty.m3u"])
@pytest.mark.parametrize("command", ["tag", "explain", "request", "data check"])
def test_a_folder_or_playlist_without_audio_is_one_sentence(call, tmp_path, monkeypatch, command, name) -> None:
    """Before a model is loaded or a server is asked."""
    monkeypatch.chdir(tmp_path)
    Path("nothing").mkdir()
    Path("nothing/._x.mp3").touch()
    Path("empty.m3u").write_text("#EXTM3U\n")
    monkeypatch.setattr("keras_tagger.tagger.load", None)
    status, out, err = call(*command.split(), name)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith("keras-tagger: ")
    assert name in err


@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl"])
def test_warnings(call, scripted, form) -> None:
    """They are printed beside a table or CSV, and part of JSON."""
    status, out, err = call("tag", "quiet.wav", "a.wav", "--format", form)
    assert status == 0
    if form in ("table", "csv"):
        assert err == f"keras-tagger: warning: {WARNING}\n"
        assert "silent" not in out
    else:
        assert err == ""
        rows = json.loads(out) if form == "json" else [json.loads(line) for line in out.splitlines()]
        assert [row["warnings"] for row in rows] == [[{"kind": "silent", "message": str(WARNING)}], []]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "Expected one audio file on standard input (-). Received: none, as it is closed."),
        ("terminal", "Expected one audio file on standard input (-). Received: a terminal."),
    ],
)
def test_standard_input_without_audio(call, scripted, monkeypatch, text, sentence) -> None:
    monkeypatch.setattr(sys, "stdin", text and types.SimpleNamespace(closed=False, isatty=lambda: True))
    assert call("tag", "-") == (1, "", f"keras-tagger: {sentence}\n")


@pytest.mark.usefixtures("stdin")
def test_standard_input_is_read_once(call, scripted) -> None:
    status, out, err = call("tag", "-", "-", "--json")
    assert status == 1
    assert err == "keras-tagger: Expected one audio file on standard input (-). Received: a second -.\n"
    assert [list(json.loads(line))[1] for line in out.splitlines()] == ["tags", "error"]


@pytest.mark.usefixtures("stdin")
def test_standard_input_is_tagged_as_the_file(call, tagger, clip, monkeypatch) -> None:
    monkeypatch.setattr("keras_tagger.tagger.load", lambda model: tagger)
    status, out, _ = call("tag", clip, "-", "--json")
    first, second = (json.loads(line) for line in out.splitlines())
    assert (status, second["file"]) == (0, "-")
    assert first["tags"] == second["tags"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert json.loads(call("tag", "-", "--json")[1])["error"].endswith("which is empty.")


class Pipe:
    """A pipe whose ends are files; both are closed at the end."""

    def __init__(self) -> None:
        ours, theirs = os.pipe()
        self.read, self.write = os.fdopen(ours, "rb"), os.fdopen(theirs, "wb")

    def close(self) -> None:
        self.write.close()
        self.read.close()


@pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl"])
@pytest.mark.parametrize("to_file", [False, True], ids=["pipe", "file"])
def test_a_row_is_written_before_the_next_file_is_decoded(
    tagger, clip, tmp_path, monkeypatch, form: str, to_file: bool
) -> None:
    """The second file arrives on standard input only after the row of the first was read from a pipe or a file."""
    given, printed = Pipe(), Pipe()
    monkeypatch.setattr("keras_tagger.tagger.load", lambda model: tagger)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(given.read))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed.write))
    words = ["tag", str(clip), "-", "--top", "1", "--format", form]
    if to_file:
        words += ["--output", str(tmp_path / "out")]
    statuses = []
    thread = threading.Thread(target=lambda: statuses.append(main(words)), daemon=True)
    thread.start()
    first = wait_for(tmp_path / "out", str(clip)) if to_file else read_until(printed.read, str(clip))
    assert str(clip) in first
    assert thread.is_alive()
    given.write.write(clip.read_bytes())
    given.write.close()
    thread.join(60)
    assert statuses == [0]
    monkeypatch.undo()
    printed.write.close()
    text = (tmp_path / "out").read_text() if to_file else first + printed.read.read().decode()
    assert [text.count(str(clip)), "-" in text.replace(str(clip), "")] == [1, True]
    printed.close()
    given.close()


def read_until(file: Any, text: str) -> str:
    found = ""
    while text not in found:
        found += file.read1().decode()
    return found


def wait_for(path: Path, text: str) -> str:
    end = threading.Event()
    for _ in range(600):
        if path.exists() and text in path.read_text():
            return path.read_text()
        end.wait(0.1)
    pytest.fail(f"{path} has no row")


def test_an_interrupted_run_leaves_complete_rows(call, scripted, monkeypatch) -> None:
    def tag_files(self: Any, sources: Iterable[Any], *_: object) -> Iterator[tuple[Any, Any]]:
        yield from ScriptedTagger.tag_files(self, [next(iter(sources))], 1, False, "score")
        raise KeyboardInterrupt

    monkeypatch.setattr(
        "keras_tagger.tagger.load", lambda model: types.SimpleNamespace(tag_files=lambda *how: tag_files(None, *how))
    )
    for name, read in (("out.json", json.loads), ("out.jsonl", lambda text: [json.loads(text)])):
        status, _, err = call("tag", "a.wav", "album", "--output", name)
        assert (status, err) == (130, "keras-tagger: interrupted\n")
        assert [row["file"] for row in read(Path(name).read_text())] == ["a.wav"]


def test_names_that_are_not_text_are_written(call, scripted) -> None:
    name = os.fsdecode(b"album/latin-\xfc.wav")
    shutil.copy("a.wav", name)
    assert call("tag", "album", "--output", "out.csv")[0] == 0
    assert b"album/latin-\xfc.wav," in Path("out.csv").read_bytes()
    for form in ("json", "jsonl"):
        assert call("tag", name, "--output", f"out.{form}")[0] == 0
        text = Path(f"out.{form}").read_text("utf-8")
        assert (json.loads(text)[0] if form == "json" else json.loads(text))["file"] == name


def test_an_output_that_cannot_be_written_is_one_sentence(call, scripted) -> None:
    status, _, err = call("tag", "a.wav", "--output", "album")
    assert status == 1
    assert err.startswith("keras-tagger: expected to read and write files. Received: [Errno 21]")
    assert err.count("\n") == 1
