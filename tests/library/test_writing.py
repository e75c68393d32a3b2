"""Tags in files: every format, whole or not at all, and back to the byte."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import zlib
from pathlib import Path

import mixed_files
import mutagen
import pytest
import write_worker
from mutagen.id3 import ID3
from write_worker import FIELDS, MOMENTS, ORIGIN

import keras_tagger
from keras_tagger.errors import LibraryError
from keras_tagger.library.formats import open_music
from keras_tagger.library.journal import Journal
from keras_tagger.library.writing import Origin, find_target, make_plan, undo, unique, write

KINDS = list(mixed_files.KINDS)


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "state" / "journal.sqlite") as opened:
        yield opened


def write_fields(path, journal, fields=FIELDS, existing="keep", origin=ORIGIN, keep_mtime=False):
    plan = make_plan(find_target(path, origin), fields, origin, existing)
    write(plan, journal, keep_mtime)
    return plan


def run_worker(journal_path, when, count, paths):
    """Run the worker that kills itself, and return its exit status."""
    command = [sys.executable, write_worker.__file__, str(journal_path), when, str(count), *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": str(Path(keras_tagger.__file__).parents[1])}
    return subprocess.run(command, check=False, env=environment).returncode


@pytest.mark.parametrize("name", KINDS)
def test_every_format_gets_its_fields_and_keeps_its_sound(name, files, journal):
    path = files[name]
    before, sound, status = path.read_bytes(), mixed_files.hashes(path), path.stat()
    # mutagen's own easy interface knows the titles; bpm must not be touched.
    easy = dict(mutagen.File(path, easy=True).tags or {})
    write_fields(path, journal)
    assert path.read_bytes() != before
    assert mixed_files.hashes(path) == sound
    music = open_music(path)
    assert {field: music.get(field) for field in FIELDS} == FIELDS
    after = dict(mutagen.File(path, easy=True).tags)
    assert {key: after[key] for key in easy} == easy
    assert json.loads("/".join(music.get("KERAS_TAGGER")))["model"] == "tiny"
    assert find_target(path, ORIGIN).done
    assert not find_target(path, Origin("tiny", "12345678", "1.1", "87654321")).done
    assert undo(path, journal)
    assert path.read_bytes() == before
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert not undo(path, journal)


def test_fields_are_where_other_programs_look(files, journal):
    for path in files.values():
        write_fields(path, journal)
    id3 = {name: ID3(files[name], translate=False) for name in ("id3v23.mp3", "id3v24_v1.mp3", "untagged.mp3")}
    assert {name: tags.version for name, tags in id3.items()} == {
        "id3v23.mp3": (2, 3, 0),
        "id3v24_v1.mp3": (2, 4, 0),
        "untagged.mp3": (2, 4, 0),
    }
    assert id3["id3v24_v1.mp3"]["TCON"].text == ["Jazz", "Blues"]
    assert id3["id3v24_v1.mp3"]["TMOO"].text == ["Calm"]
    assert id3["id3v24_v1.mp3"]["TXXX:INSTRUMENT"].text == ["Vibraphone", "Drums"]
    # ID3v2.3 has no TMOO, no frames with several values and no TDRC.
    assert id3["id3v23.mp3"]["TCON"].text == ["Jazz/Blues"]
    assert id3["id3v23.mp3"]["TXXX:MOOD"].text == ["Calm"]
    assert "TYER" in id3["id3v23.mp3"]
    assert mutagen.File(files["song.flac"]).tags["GENRE"] == ["Jazz", "Blues"]
    assert mutagen.File(files["song.opus"]).tags["MOOD"] == ["Calm"]
    mp4 = mutagen.File(files["end.m4a"]).tags
    assert mp4["\xa9gen"] == ["Jazz", "Blues"]
    assert mp4["----:com.apple.iTunes:INSTRUMENT"] == [b"Vibraphone", b"Drums"]
    asf = mutagen.File(files["song.wma"]).tags
    assert [str(value) for value in asf["WM/Genre"]] == ["Jazz", "Blues"]
    assert [str(value) for value in asf["WM/Mood"]] == ["Calm"]


def test_an_id3v1_tag_stays_as_it_is(files, journal):
    path = files["id3v24_v1.mp3"]
    last = path.read_bytes()[-128:]
    assert last.startswith(b"TAG")
    write_fields(path, journal)
    assert path.read_bytes()[-128:] == last


@pytest.mark.parametrize("name", ["song.flac", "id3v23.mp3", "end.m4a"])
def test_values_of_others_are_kept_unless_told_otherwise(name, files, journal):
    path = files[name]
    music = open_music(path)
    music.set("genre", ["Bebop", "blues"])
    music.save(path)
    (genre, *_) = write_fields(path, journal).changes
    assert genre.before == genre.after == ("Bebop", "blues")
    assert open_music(path).get("genre") == ["Bebop", "blues"]
    assert open_music(path).get("mood") == ["Calm"]
    write_fields(path, journal, existing="add")
    assert open_music(path).get("genre") == ["Bebop", "blues", "Jazz"]
    write_fields(path, journal, existing="replace")
    assert open_music(path).get("genre") == ["Jazz", "Blues"]


@pytest.mark.parametrize("name", ["song.ogg", "id3v23.mp3"])
def test_a_newer_model_replaces_what_the_older_one_wrote_and_nothing_else(name, files, journal):
    path = files[name]
    write_fields(path, journal)
    music = open_music(path)
    music.set("mood", ["Angry"])  # by its owner
    music.save(path)
    newer = Origin("tiny", "99999999", "2.0", "87654321")
    write_fields(path, journal, {"genre": ["Swing"], "mood": ["Happy"]}, origin=newer)
    music = open_music(path)
    assert [music.get(field) for field in ("genre", "mood", "instrument")] == [["Swing"], ["Angry"], []]


def test_a_chain_of_writes_is_undone_step_by_step(files, journal):
    path = files["song.opus"]
    states = [path.read_bytes()]
    for genre in ("A", "B" * 3000):
        write_fields(path, journal, {"genre": [genre]}, "replace", Origin(genre[0], "", "", ""))
        states.append(path.read_bytes())
    for state in (states[1], states[0]):
        assert undo(path, journal)
        assert path.read_bytes() == state
    # A write after an undo is a new one.
    write_fields(path, journal)
    assert undo(path, journal)
    assert path.read_bytes() == states[0]


def test_200_mixed_files_are_restored_to_the_byte(originals, tmp_path, journal):
    before = {}
    for number in range(200):
        source = originals[number % len(originals)]
        path = tmp_path / f"{number:03d}{source.suffix}"
        shutil.copyfile(source, path)
        music = open_music(path)
        music.set("comment", [f"{number} " * (number + 1)])
        music.save(path)
        os.utime(path, ns=(10**18 + number, 10**18 + number))
        before[path] = path.read_bytes()
    for path in before:
        write_fields(path, journal)
    assert all(path.read_bytes() != content for path, content in before.items())
    renamed = tmp_path / "renamed.mp3"
    first = next(iter(before))
    first.rename(renamed)
    assert all(undo(path, journal) for path in [renamed, *list(before)[1:]])
    renamed.rename(first)
    assert {path: path.read_bytes() for path in before} == before
    assert [path.stat().st_mtime_ns - 10**18 for path in before] == [*range(200)]
    assert sum(path.suffix == ".sqlite" for path in tmp_path.iterdir()) == 0
    assert journal.path.stat().st_size < 1_000_000


@pytest.mark.parametrize("when", [when for when in MOMENTS if not when.endswith("undo")])
def test_kill_9_leaves_no_broken_file(when, originals, tmp_path):
    """At the 23rd of 50 files, at each moment that matters."""
    folder = tmp_path / "music"
    folder.mkdir()
    before = {}
    for number in range(50):
        source = originals[number % len(originals)]
        path = folder / f"{number:02d}{source.suffix}"
        before[path] = source.read_bytes()
        path.write_bytes(before[path])
    journal_path = tmp_path / "journal.sqlite"
    assert run_worker(journal_path, when, 23, before) == -9
    written = [path for path, content in before.items() if path.read_bytes() != content]
    assert written == list(before)[: 23 if when == "after the replacement" else 22]
    for path in written:
        music = open_music(path)
        assert {field: music.get(field) for field in FIELDS} == FIELDS
    with Journal(journal_path) as journal:
        assert journal.cleared == 1
        assert {path for path in folder.iterdir()} == set(before)  # no temporary files
        # The rest is written in a second run, and everything can be undone.
        for path in before:
            if not (target := find_target(path, ORIGIN)).done:
                write(make_plan(target, FIELDS, ORIGIN), journal)
        assert sum(undo(path, journal) for path in before) == 50
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("when", ["before an undo", "after an undo"])
def test_kill_9_during_an_undo(when, files, journal):
    before = {path: path.read_bytes() for path in files.values()}
    for path in before:
        write_fields(path, journal)
    journal.__exit__()
    assert run_worker(journal.path, when, 5, before) == -9
    restored = [path for path, content in before.items() if path.read_bytes() == content]
    assert restored == list(before)[: 4 if when == "before an undo" else 5]
    with Journal(journal.path) as again:
        assert {*path.parent.iterdir()} == set(before)
        assert sum(undo(path, again) for path in before) == len(before) - len(restored)
    assert {path: path.read_bytes() for path in before} == before


def test_a_file_that_changes_meanwhile_is_left_alone(files, journal):
    path = files["song.flac"]
    plan = make_plan(find_target(path, ORIGIN), FIELDS, ORIGIN)
    content = path.read_bytes() + b"\0"
    path.write_bytes(content)
    with pytest.raises(LibraryError, match="which has changed"):
        write(plan, journal)
    assert path.read_bytes() == content
    assert os.listdir(path.parent) == [file for file in os.listdir(path.parent) if not file.startswith(".")]


def test_undo_keeps_what_was_changed_since(files, journal):
    path = files["song.flac"]
    write_fields(path, journal)
    music = open_music(path)
    music.set("title", ["by hand"])
    music.save(path)
    content = path.read_bytes()
    with pytest.raises(LibraryError, match="which has changed since"):
        undo(path, journal)
    assert path.read_bytes() == content


def test_permissions_links_and_attributes_stay(files, journal):
    path = files["song.ogg"]
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))
    try:
        os.setxattr(path, "user.rating", b"5")
        attributes = {"user.rating": b"5"}
    except OSError:  # not every file system has them
        attributes = {}
    link = path.with_name("link.ogg")
    link.symlink_to(path.name)
    write_fields(link, journal, keep_mtime=True)
    assert link.is_symlink()
    assert open_music(path).get("mood") == ["Calm"]
    status = path.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_mtime_ns) == (0o640, 10**18)
    assert {name: os.getxattr(path, name) for name in os.listxattr(path) if name.startswith("user.")} == attributes


def test_a_file_with_several_names_counts_once(files):
    path = files["song.ogg"]
    (path.parent / "link.ogg").symlink_to(path)
    os.link(path, path.parent / "hard.ogg")
    names = [str(path), str(path.parent / "link.ogg"), str(path.parent / "hard.ogg"), str(path)]
    assert list(unique(names)) == [str(path)]
    assert find_target(path, ORIGIN).names == 2


def test_files_that_cannot_be_written_are_refused(files, tmp_path):
    files["song.flac"].chmod(0o444)
    with pytest.raises(LibraryError, match=r"a file that can be written\. Received: .*song\.flac', which is read-only"):
        find_target(files["song.flac"], ORIGIN)
    with pytest.raises(LibraryError, match="expected a music file"):
        find_target(tmp_path / "gone.mp3", ORIGIN)
    text = tmp_path / "text.mp3"
    text.write_text("no music")
    with pytest.raises(LibraryError, match="an intact music file"):
        find_target(text, ORIGIN)
    cut = tmp_path / "cut.m4a"
    cut.write_bytes(files["start.m4a"].read_bytes()[:200])
    with pytest.raises(LibraryError, match="an intact music file"):
        find_target(cut, ORIGIN)


def test_one_process_at_a_time_and_only_a_journal(journal, tmp_path):
    with pytest.raises(LibraryError, match="which another process is using"):
        Journal(journal.path)
    (tmp_path / "text.sqlite").write_text("no database, but long enough to be read as one " * 10)
    with pytest.raises(LibraryError, match="which is not a journal"):
        Journal(tmp_path / "text.sqlite")


def test_a_damaged_journal_changes_no_file(files, tmp_path):
    path = files["song.wav"]
    with Journal(tmp_path / "j.sqlite") as journal:
        write_fields(path, journal)
    content = path.read_bytes()
    database = sqlite3.connect(tmp_path / "j.sqlite")
    with database:
        database.execute("UPDATE writes SET delta = ?", (zlib.compress(b"\0" * 17),))
    database.close()
    with Journal(tmp_path / "j.sqlite") as journal, pytest.raises(LibraryError, match="which is damaged"):
        undo(path, journal)
    assert path.read_bytes() == content
