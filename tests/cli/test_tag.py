"""The command `tag`."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys

import pytest

from keras_tagger.cli import main
from keras_tagger.cli.flags import DEFAULT_MODEL
from keras_tagger.storage import pretrained
from keras_tagger.tagger import load
from keras_tagger.tags import TagInfo


def test_tag_imports_little_beside_tensorflow(tiny_run, clip, tmp_path):
    code = (
        "import sys; from keras_tagger.cli import app\n"
        "assert 'tensorflow' not in sys.modules\n"
        "unneeded = {'librosa', 'numba', 'tensorflow_serving', 'pandas', 'sklearn', 'matplotlib'}\n"
        "unneeded |= {'keras_tagger.train', 'keras_tagger.evaluation'}\n"
        "run = app.run\n"
        "app.run = lambda words: (run(words), sys.stderr.write(f'imported {sorted(unneeded & set(sys.modules))}'))[0]\n"
        "app.main()"
    )
    command = [sys.executable, "-c", code, "tag", str(clip), "--model", str(tiny_run.dir)]
    # Without a font cache, as after an installation: matplotlib must not report that it builds one.
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path / "fonts")}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "imported []"
    assert done.stdout.startswith(f"{clip}\n  ")


def test_text_json_and_csv_agree(call, tiny_run, clip):
    expected = tiny_run.tagger.tag(clip, top=2).to_dict()
    status, out, _ = call("tag", clip, "--model", tiny_run.dir, "--top", 2)
    lines = out.splitlines()
    assert (status, lines[0], len(lines)) == (0, str(clip), 3)
    assert [line.split()[:2] for line in lines[1:]] == [[tag, f"{score:.3f}"] for tag, score in expected.items()]
    status, out, _ = call("tag", clip, "--model", tiny_run.dir, "--top", 2, "--json")
    found = json.loads(out)
    assert (status, found["file"], list(found["tags"])) == (0, str(clip), list(expected))
    assert found["tags"] == pytest.approx(expected, abs=1e-6)
    assert found["present"] == [tag for tag, score in expected.items() if score >= 0.5]
    assert found["unheard"] == []
    status, out, _ = call("tag", clip, "--model", tiny_run.dir, "--top", 2, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["file"], row["tag"]) for row in rows] == [(str(clip), tag) for tag in expected]
    assert [float(row["score"]) for row in rows] == pytest.approx(list(expected.values()), abs=1e-6)
    assert [(row["present"], row["unheard"]) for row in rows] == [
        (str(int(expected[row["tag"]] >= 0.5)), "0") for row in rows
    ]


def test_shipped_weights_are_the_default(call, tiny_run, clip, tmp_path, monkeypatch):
    """No --model: one tag was not heard in training, one is above its threshold, and two are synonyms."""
    monkeypatch.setattr(pretrained, "weights_folder", lambda: tmp_path / "weights")
    renamed = tiny_run.tagger.select(["high", "low", "mid"], {"high": "voice", "low": "singing"})
    renamed.info = {"voice": TagInfo(has_evidence=False), "singing": TagInfo(0.01), "mid": TagInfo(0.999)}
    pretrained.write_packaged(renamed, DEFAULT_MODEL, "Tones.", {}, "", tmp_path / "weights")
    expected = load(DEFAULT_MODEL).tag(clip)
    status, out, _ = call("tag", clip)
    scores = expected.to_dict()
    assert (status, out.splitlines()[0]) == (0, str(clip))
    assert sorted(out.splitlines()[1:]) == sorted(
        [
            f"  singing  {scores['singing']:.3f} *",
            f"  voice    {scores['voice']:.3f}  not heard in training",
            f"  mid      {scores['mid']:.3f}",
        ]
    )
    status, out, _ = call("tag", clip, "--json")
    found = json.loads(out)
    assert found == {
        **{"file": str(clip), "tags": pytest.approx(scores, abs=1e-6), "present": ["singing"], "unheard": ["voice"]},
        "margins": {entry.name: entry.margin and pytest.approx(entry.margin, abs=1e-4) for entry in expected},
        "warnings": [],
    }
    assert found["margins"]["voice"] is None
    # What was not heard is last, whatever its score.
    status, out, _ = call("tag", clip, "--rank", "margin")
    assert (status, out.splitlines()[1:]) == (
        0,
        [
            f"  singing  {scores['singing']:.3f}  {expected['singing'].margin:+.2f} *",
            f"  mid      {scores['mid']:.3f}  {expected['mid'].margin:+.2f}",
            f"  voice    {scores['voice']:.3f}  not heard in training",
        ],
    )
    status, out, _ = call("tag", clip, "--merge_synonyms", "--csv", "--model", DEFAULT_MODEL)
    rows = {row["tag"]: row for row in csv.DictReader(io.StringIO(out))}
    assert (status, sorted(rows)) == (0, ["mid", "voice"])
    # The score is that of the name that was heard in training.
    assert float(rows["voice"]["score"]) == pytest.approx(scores["singing"], abs=1e-6)
    assert (rows["voice"]["present"], rows["voice"]["unheard"]) == ("1", "0")
    assert float(rows["voice"]["margin"]) == pytest.approx(expected["singing"].margin, abs=1e-4)
    status, _, err = call("tag", clip, "--model", "compct")
    assert status == 1
    expected = f"expected a pretrained name ({DEFAULT_MODEL}), a run directory or a .keras file. Received: 'compct'"
    assert expected in err


def test_a_bad_file_among_good_ones_is_reported_and_skipped(call, tiny_run, clip, tmp_path):
    bad = tmp_path / "notes.mp3"
    bad.write_text("no music here")
    status, out, err = call("tag", bad, clip, tmp_path / "gone.wav", "--model", tiny_run.dir, "--json")
    assert status == 1
    messages = [line for line in err.splitlines() if line.startswith("keras-tagger: ")]
    assert len(messages) == 2
    assert str(bad) in messages[0]
    assert "gone.wav" in messages[1]
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["file"] for row in found] == [str(bad), str(clip), str(tmp_path / "gone.wav")]
    assert [f"keras-tagger: {row['error']}" for row in found if "error" in row] == messages
    keys = ["file", "tags", "present", "unheard", "margins", "warnings"]
    assert [list(row) for row in found if "error" not in row] == [keys]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_files_of_any_name(monkeypatch, tiny_run, clip, encoding):
    """A name that stdout cannot encode, and a name that is not text, are printed so that they can be read back."""
    names = [b"\xc3\xbc\xe9\x9f\xb3.wav", b"latin-\xfc.wav", b'two\nlines, "quoted".wav']
    files = [os.path.join(os.fsencode(clip.parent), name) for name in names]
    for file in files:
        os.link(clip, file)

    def tag(*options: str) -> bytes:
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors="strict"))
        assert main(["tag", *map(os.fsdecode, files), "--model", str(tiny_run.dir), "--top", "1", *options]) == 0
        return written.getvalue()

    printed = [json.loads(line)["file"] for line in tag("--json").decode("utf-8").splitlines()]
    assert [os.fsencode(file) for file in printed] == files
    if encoding == "utf-8":
        rows = list(csv.DictReader(io.StringIO(tag("--csv").decode("utf-8", "surrogateescape"))))
        assert [os.fsencode(row["file"]) for row in rows] == files
    else:
        assert b"\\xfc\\u97f3.wav\n" in tag()


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"compact": {}}'], ids=repr)
def test_a_damaged_registry_is_one_sentence(call, clip, tmp_path, monkeypatch, text):
    monkeypatch.setattr(pretrained, "weights_folder", lambda: tmp_path)
    if text is not None:
        (tmp_path / "registry.json").write_text(text)
    status, out, err = call("tag", clip)
    assert (status, out) == (1, "")
    assert err.startswith("keras-tagger: expected the registry of packaged weights")
    assert err.count("\n") == 1
    assert str(tmp_path / "registry.json") in err
