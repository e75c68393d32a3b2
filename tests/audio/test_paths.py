"""Audio in folders and playlists."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from keras_tagger.audio.paths import expand, find_audio, is_hidden, read_playlist
from keras_tagger.errors import AudioError, AudioNotFoundError


@pytest.fixture
def music(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a few empty files."""
    monkeypatch.chdir(tmp_path)
    for name in ("a.mp3", "b c.ogg", "album/01.flac", "album/cd 2/02.m4a", "#1 hit.mp3"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_folders_are_searched_at_any_depth(music: Path) -> None:
    for suffix in ("WMA", "opus", "ape", "wv", "dsf", "aiff", "webm", "mka", "ac3"):
        (music / f"album/x.{suffix}").touch()
    found = find_audio("album")
    assert found == sorted(found)
    assert set(found) == {
        *("album/01.flac", "album/cd 2/02.m4a", "album/x.WMA", "album/x.opus", "album/x.ape", "album/x.wv"),
        *("album/x.dsf", "album/x.aiff", "album/x.webm", "album/x.mka", "album/x.ac3"),
    }
    assert find_audio(music / "album")[0] == str(music / "album/01.flac")


def test_what_systems_write_is_not_audio(music: Path) -> None:
    for name in (
        *("._a.mp3", ".hidden/a.mp3", "@eaDir/a.mp3", "__MACOSX/a.mp3", "#recycle/a.mp3", "lost+found/a.mp3"),
        *("$RECYCLE.BIN/a.mp3", "System Volume Information/a.mp3", ".DS_Store", "Thumbs.db", "desktop.ini"),
        *("cover.jpg", "notes.txt", "mix.m3u", "tags.csv", "film.mkv", "half.mp3.part"),
    ):
        path = music / "album" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"fLaC")
    assert find_audio("album") == ["album/01.flac", "album/cd 2/02.m4a"]
    # A folder that the user names is searched.
    assert find_audio("album/.hidden") == ["album/.hidden/a.mp3"]
    assert [is_hidden(name) for name in ("@EADIR", "@ home", "a.mp3")] == [True, False, False]


@pytest.mark.parametrize(
    ("begin", "audio"),
    [
        (b"RIFF\0\0\0\0WAVE", True),
        (b"RIFF\0\0\0\0AVI ", False),
        (b"FORM\0\0\0\0AIFF", True),
        (b"OggS", True),
        (b"ID3\x04\0", True),
        (b"\xff\xfb\x90\x00", True),
        (b"\xff\xf1\x50\x80", True),
        (b"\xff\xfea\0b\0", False),
        (b"\xff\xff\xff\xff", False),
        (b"\0\0\0\x20ftypM4A \0\0", True),
        (b"\0\0\0\x20ftypheic\0\0", False),
        (b"\x1a\x45\xdf\xa3", True),
        (b"wvpk", True),
        (b"#!/bin/sh\n", False),
        (b"", False),
    ],
    ids=repr,
)
@pytest.mark.parametrize("name", ["track 1", "Mr. Song", "sound.dat"])
def test_files_with_other_names_are_told_by_their_first_bytes(
    music: Path, name: str, begin: bytes, audio: bool
) -> None:
    (music / "cd").mkdir()
    (music / "cd" / name).write_bytes(begin + bytes(50))
    assert find_audio("cd") == ([f"cd/{name}"] if audio else [])


def test_links_do_not_go_round(music: Path) -> None:
    (music / "other").mkdir()
    (music / "other/z.wav").touch()
    for name, target in (("up", ".."), ("self", "."), ("there", "../other"), ("again", "../other")):
        (music / "album" / name).symlink_to(target)
    (music / "other/back").symlink_to("../album")
    (music / "album/gone.mp3").symlink_to("nowhere.mp3")
    found = find_audio("album")
    assert [path for path in found if path.endswith("z.wav")] in (["album/again/z.wav"], ["album/there/z.wav"])
    assert "album/gone.mp3" in found  # reading it will say that it does not exist
    assert [path for path in found if path.endswith("01.flac")] == ["album/01.flac"]


def test_folders_that_cannot_be_read_are_reported(music: Path) -> None:
    (music / "album/locked").mkdir()
    (music / "album/locked").chmod(0)
    music.chmod(0o755)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        errors: list[AudioError] = []
        assert find_audio("album", errors.append) == ["album/01.flac", "album/cd 2/02.m4a"]
        message = "Expected a readable folder. Received: 'album/locked' (Permission denied)."
        assert list(map(str, errors)) == [message]
        with pytest.raises(AudioError, match="'album/locked'"):
            find_audio("album")
        assert [(path, str(error)) for path, error in expand(["album"]) if error] == [("album", message)]
        assert [str(error) for _, error in expand(["album/locked"])] == [message]
    finally:
        os.seteuid(user)
        (music / "album/locked").chmod(0o700)


def test_the_wrong_kind_of_path(music: Path) -> None:
    with pytest.raises(AudioNotFoundError, match="Expected a folder"):
        find_audio("absent")
    with pytest.raises(AudioError, match="'a.mp3', which is a file"):
        find_audio("a.mp3")
    with pytest.raises(AudioNotFoundError, match="Expected a playlist"):
        read_playlist("absent.m3u")
    (music / "folder.m3u").mkdir()
    with pytest.raises(AudioError, match=r"a readable playlist\. Received: 'folder\.m3u' \(Is a directory\)"):
        read_playlist("folder.m3u")
    (music / "bad.xspf").write_text("<playlist>")
    with pytest.raises(AudioError, match=r"an XSPF playlist\. Received: 'bad\.xspf' \(no element found"):
        read_playlist("bad.xspf")


M3U = """#EXTM3U
#EXTINF:123,Artist - Title
{here}/a.mp3
b c.ogg
b%20c.ogg
file://{here}/b%20c.ogg
file://localhost{here}/a.mp3
file:{here}/a.mp3
#1 hit.mp3
# a comment

album\\cd 2\\02.m4a
C:\\Music\\x.mp3
file:///C:/Music/y%20z.mp3
https://example.com/stream.mp3
a.mp3
missing.mp3"""


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: text.encode(),
        lambda text: text.replace("\n", "\r\n").encode(),
        lambda text: text.replace("\n", "\r").encode(),
        lambda text: b"\xef\xbb\xbf" + text.encode(),
        lambda text: text.encode("utf-16"),
    ],
    ids=["utf-8", "crlf", "cr", "bom", "utf-16"],
)
@pytest.mark.parametrize("suffix", ["m3u", "M3U8"])
def test_m3u(music: Path, encode, suffix: str) -> None:
    Path(f"mix.{suffix}").write_bytes(encode(M3U.format(here=music)))
    assert read_playlist(f"mix.{suffix}") == [
        *(f"{music}/a.mp3", "b c.ogg", "b c.ogg", f"{music}/b c.ogg", f"{music}/a.mp3", f"{music}/a.mp3", "#1 hit.mp3"),
        *("album/cd 2/02.m4a", "C:/Music/x.mp3", "C:/Music/y z.mp3", "https://example.com/stream.mp3", "a.mp3"),
        "missing.mp3",
    ]


def test_entries_are_relative_to_the_playlist(music: Path) -> None:
    (music / "lists").mkdir()
    Path("lists/mix.m3u").write_text("../a.mp3\n..\\album\\01.flac\ngone.mp3\n")
    assert read_playlist("lists/mix.m3u") == ["lists/../a.mp3", "lists/../album/01.flac", "lists/gone.mp3"]
    assert read_playlist(music / "lists/mix.m3u")[0] == f"{music}/lists/../a.mp3"


@pytest.mark.parametrize("on_disk", ["utf-8", "latin-1"])
@pytest.mark.parametrize("listed", ["utf-8", "latin-1"])
def test_names_in_another_encoding_are_found(music: Path, on_disk: str, listed: str) -> None:
    name = os.fsdecode("Müller – é.mp3".replace("–", "-").encode(on_disk))
    Path(name).touch()
    Path("mix.m3u").write_bytes("Müller - é.mp3\n".encode(listed))
    # The bytes of Latin-1 do not tell that the name on the disk is the same text in it.
    expected = [name] if on_disk == "utf-8" or listed == "latin-1" else ["Müller - é.mp3"]
    assert read_playlist("mix.m3u") == expected
    Path("quotes.m3u").write_bytes("“€”.mp3".encode("cp1252"))
    Path("“€”.mp3").touch()
    assert read_playlist("quotes.m3u") == ["“€”.mp3"]


def test_accents_may_be_composed_or_not(music: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.mp3") for form in ("NFC", "NFD"))
    Path(decomposed).touch()
    Path("mix.m3u").write_text(composed, "utf-8")
    assert read_playlist("mix.m3u") == [decomposed]


def test_a_backslash_may_be_part_of_a_name(music: Path) -> None:
    Path("x\\y.mp3").touch()
    Path("mix.m3u").write_text("x\\y.mp3")
    assert read_playlist("mix.m3u") == ["x\\y.mp3"]


def test_pls_and_xspf(music: Path) -> None:
    Path("mix.pls").write_bytes(
        b"[playlist]\r\nFile10=a.mp3\r\nTitle10=x\r\nLength10=-1\r\nfile2=b c.ogg\r\nFile1 = album\\01.flac\r\n"
        b"File3=\r\nNumberOfEntries=3\r\nVersion=2\r\n"
    )
    assert read_playlist("mix.pls") == ["album/01.flac", "b c.ogg", "a.mp3"]
    Path("mix.xspf").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<playlist version="1" xmlns="http://xspf.org/ns/0/"><trackList>'
        f"<track><title>x</title><location>file://{music}/b%20c.ogg</location></track>"
        "<track><location> album/cd%202/02.m4a </location><location>a.mp3</location></track>"
        "<track><location>%231%20hit.mp3</location></track>"
        "<track><title>nothing</title></track><track><location>http://example.com/a</location></track>"
        "</trackList></playlist>",
        "utf-8",
    )
    assert read_playlist("mix.xspf") == [
        *(f"{music}/b c.ogg", "album/cd 2/02.m4a", "#1 hit.mp3", "http://example.com/a"),
    ]


def test_expand(music: Path) -> None:
    Path("inner.m3u").write_text("a.mp3\nouter.m3u\n")
    Path("outer.m3u").write_text("inner.m3u\nalbum\nhttp://example.com/x.mp3\ngone.mp3\ngs://bucket/z.mp3\n")
    Path("empty.m3u").write_text("#EXTM3U\n\n")
    Path("nothing").mkdir()
    found = list(expand(["gone.wav", "outer.m3u", "a.mp3", "a.mp3", "empty.m3u", "nothing", "absent.pls"]))
    assert [path for path, error in found if error is None] == [
        *("gone.wav", "a.mp3", "album/01.flac", "album/cd 2/02.m4a", "gone.mp3", "gs://bucket/z.mp3", "a.mp3", "a.mp3"),
    ]
    assert [(path, str(error)) for path, error in found if error is not None] == [
        ("outer.m3u", "Expected a playlist that does not contain itself. Received: 'outer.m3u'."),
        (
            "http://example.com/x.mp3",
            "Expected files in the playlist 'outer.m3u'. Received: 'http://example.com/x.mp3', which must be "
            "downloaded first.",
        ),
        ("empty.m3u", "Expected a playlist with entries. Received: 'empty.m3u', which is empty."),
        ("nothing", "Expected a folder with audio files. Received: 'nothing', which holds none."),
        ("absent.pls", "Expected a playlist. Received: 'absent.pls', which does not exist."),
    ]


def test_a_playlist_may_be_listed_twice(music: Path) -> None:
    Path("inner.m3u").write_text("a.mp3\n")
    Path("outer.m3u").write_text("inner.m3u\ninner.m3u\n")
    assert list(expand(["outer.m3u"])) == [("a.mp3", None)] * 2
