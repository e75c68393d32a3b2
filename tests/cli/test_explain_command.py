"""The command `explain`."""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger.storage.run_dir import RunDir

# tests/explain runs what is traced.
pytestmark = pytest.mark.usefixtures("eagerly")


def test_writes_a_map_and_its_audio(call: Any, tiny_run: Any, clip: Path, tmp_path: Path) -> None:
    out, heard = tmp_path / "map.json", tmp_path / "kept.wav"
    arguments = ("--model", tiny_run.dir, "--method", "integrated_gradients", "--tags", "low", "--set", "steps=4")
    status, printed, _ = call("explain", clip, *arguments, "--out", out, "--listen", heard)
    assert status == 0
    assert printed.splitlines() == [str(out), str(heard), str(tmp_path / "kept_removed.wav")]
    found = json.loads(out.read_text("utf-8"))
    expected = tiny_run.tagger.explain(clip, "integrated_gradients", ["low"], steps=4)
    np.testing.assert_allclose(found["values"], expected.values, atol=1e-5)
    assert len(found["frequencies"]) == 32
    kept, removed = (soundfile.read(path)[0] for path in (heard, tmp_path / "kept_removed.wav"))
    np.testing.assert_allclose(kept + removed, soundfile.read(clip)[0], atol=1e-3)
    for suffix in ("png", "html"):
        status, _, _ = call("explain", clip, "--model", tiny_run.dir, "--out", tmp_path / f"map.{suffix}")
        assert status == 0
        assert (tmp_path / f"map.{suffix}").stat().st_size > 1000


def test_several_pages_have_a_table(call: Any, tiny_run: Any, clip: Path, tmp_path: Path) -> None:
    """Each page states the model, its weights and the method."""
    other = clip.with_name("a <b>.wav")
    other.write_bytes(clip.read_bytes())
    out = tmp_path / "pages/why.html"
    flags = ("--model", tiny_run.dir, "--tags", "low", "--method", "gradient_input", "--solo", "--out", out)
    status, printed, _ = call("explain", clip, other, *flags)
    pages = [out.parent / name / "why.html" for name in ("low", "a <b>")]
    assert (status, printed.splitlines()) == (0, [*map(str, pages), str(out)])
    status, printed, _ = call("explain", clip, *flags[:-1], f"{tmp_path}/folder/")
    assert (status, printed.splitlines()) == (0, [str(tmp_path / "folder/index.html")])

    def content(page: Path) -> Any:
        found = re.search(r'<script type="application/json">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
        assert found
        return json.loads(found[1])

    rows = content(out)
    assert [(row["name"], row["href"]) for row in rows] == [
        ("low.wav", "low/why.html"),
        ("a <b>.wav", "a%20%3Cb%3E/why.html"),
    ]
    assert set(rows[0]["scores"]) == set(tiny_run.tagger.tags)
    document = content(pages[0])
    model = document["model"]
    assert model["sha256"] == hashlib.sha256(RunDir(tiny_run.dir).model.read_bytes()).hexdigest()
    assert (model["name"], model["settings"]["method"]) == (str(tiny_run.dir), "gradient_input")
    assert set(document["solo"]["gradient_input"]["low"]) == {"kept", "removed"}


def test_times_are_printed_without_files(call: Any, tiny_run: Any, clip: Path) -> None:
    status, out, _ = call("explain", clip, "--model", tiny_run.dir)
    lines = out.splitlines()
    assert status == 0
    assert [line.split("  ")[0] for line in lines] == list(tiny_run.tagger.tag(clip, top=3).names)
    assert all(re.fullmatch(r"\w+  0\.\d{3}  \d\.\d-\d\.\d s(, \d\.\d-\d\.\d s)*", line) for line in lines)


def test_lists_methods(call: Any) -> None:
    status, out, _ = call("explain", "--methods")
    assert status == 0
    assert "occlusion " in out
    assert "--set patch_seconds=0.64" in out
    assert out.count("(default)") == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--method", "gradcam"), "method: expected one of attention, rollout"),
        (("--method", "occlusion", "--set", "steps=4"), "options of occlusion: expected one of patch_seconds"),
        (("--tags", "low,kazoo"), "tags: expected some of"),
        (
            ("--out", "map.docx"),
            "expected a path that ends in .png, .svg, .pdf, .html, .json, .npz, .csv, .jams, .svl, ",
        ),
        (("--listen", "x.mp3"), "--listen: expected a path that ends in .wav. Received: 'x.mp3'."),
        (("--solo",), "--solo: expected --out with a path that ends in .html. Received: None."),
        (("--share", "0"), "--share: expected a number above 0 and up to 1. Received: 0.0."),
    ],
)
def test_mistakes_get_one_sentence(
    call: Any, tiny_run: Any, clip: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    status, out, err = call("explain", clip, "--model", tiny_run.dir, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith(f"keras-tagger: {sentence}")
    assert err.count("\n") == 1


def test_files_of_tags_are_named_apart(call: Any, clip: Path, tmp_path: Path) -> None:
    tiny.random_tagger(tags=("a/b", "a b", "a b removed")).save(tmp_path / "odd.keras")
    tags = ("--tags", "a/b,a b,a b removed")
    status, out, _ = call("explain", clip, "--model", tmp_path / "odd.keras", *tags, "--listen", tmp_path / "x.wav")
    assert status == 0
    names = [Path(line).name for line in out.splitlines()]
    expected = ["x_a_b", "x_a_b_2", "x_a_b_removed_2"]
    assert names == [f"{stem}{end}.wav" for stem in expected for end in ("", "_removed")]
    # A derived name is not an input's either.
    derived = tmp_path / "y_removed.wav"
    derived.write_bytes(clip.read_bytes())
    before = derived.read_bytes()
    status, _, err = call(
        *("explain", derived, "--model", tmp_path / "odd.keras", "--tags", "a b", "--listen", tmp_path / "y.wav")
    )
    assert status == 1
    assert "--listen: expected a file that is not an input. Received: " in err
    assert derived.read_bytes() == before
    assert not (tmp_path / "y.wav").exists()


def test_does_not_write_over_the_clip(call: Any, tiny_run: Any, clip: Path) -> None:
    before = clip.read_bytes()
    status, _, err = call("explain", clip, "--model", tiny_run.dir, "--listen", clip)
    assert status == 1
    assert err == f"keras-tagger: --listen: expected a file that is not an input. Received: '{clip}'.\n"
    assert clip.read_bytes() == before
    status, _, err = call("explain")
    assert (status, err) == (1, "keras-tagger: expected an audio file to explain. Received: none.\n")


def test_derived_names_do_not_write_over_the_clip(call: Any, tiny_run: Any, clip: Path) -> None:
    for stem, listen in (("kept_removed", "kept.wav"), ("kept_low", "kept.wav"), ("kept_mid_removed", "kept.wav")):
        source = clip.with_stem(stem)
        source.write_bytes(clip.read_bytes())
        tags = "low" if stem == "kept_removed" else "low,mid"
        flags = ("--listen", clip.with_name(listen), "--tags", tags, "--method", "contributions")
        status, _, err = call("explain", source, "--model", tiny_run.dir, *flags)
        assert status == 1
        assert err == f"keras-tagger: --listen: expected a file that is not an input. Received: '{source}'.\n"
        assert source.read_bytes() == clip.read_bytes()
        source.unlink()


def test_every_input_has_a_folder(
    call: Any, tiny_run: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also a single file in a folder; equal names are numbered, and bad files are reported and skipped."""
    monkeypatch.setattr("keras_tagger.tagger.load", lambda model: tiny_run.tagger)
    monkeypatch.chdir(tmp_path)
    for name in ("music/a/x.wav", "music/b/X.wav", "music/y.wav"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip.read_bytes())
    Path("music/bad.mp3").write_text("no music")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(clip.read_bytes())))
    flags = ("--tags", "low", "--out", "maps/low.json", "--listen", "heard/low.wav")
    status, out, err = call("explain", "music", "-", *flags)
    assert status == 1
    assert err.startswith("keras-tagger: Expected audio")
    assert (err.count("\n"), "music/bad.mp3" in err) == (1, True)
    names = ("x", "X_2", "y", "stdin")
    files = [
        f"{path}"
        for name in names
        for path in (f"maps/{name}/low.json", *(f"heard/{name}/low{e}.wav" for e in ("", "_removed")))
    ]
    assert out.splitlines() == files
    assert len({Path(path).read_bytes() for path in files if "json" in path}) == 1
    assert {path.as_posix() for folder in ("maps", "heard") for path in Path(folder).rglob("*.*")} == set(files)
    status, out, _ = call("explain", "music/a", "--tags", "low,mid")
    lines = out.splitlines()
    assert (status, lines[0], [line.split()[0] for line in lines[1:]]) == (0, "music/a/x.wav", ["low", "mid"])
    assert all(line.startswith("  ") for line in lines[1:])
