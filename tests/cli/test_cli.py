"""The command line as a user meets it: exit status, stdout, stderr."""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger import __version__
from keras_tagger.cli import main as cli
from keras_tagger.data.manifest import read_manifest
from keras_tagger.data.prepared import open_prepared
from keras_tagger.data.splits import assign_splits
from keras_tagger.errors import ConfigError
from keras_tagger.storage import pretrained as packaged
from keras_tagger.tagger import load
from keras_tagger.tags import TagInfo


def run(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "keras_tagger", *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """The command in this process, which has TensorFlow loaded."""
    with pytest.raises(SystemExit) as stopped:
        cli._run(cli._parse(["keras-tagger", *(str(argument) for argument in arguments)]))
    captured = capsys.readouterr()
    return stopped.value.code, captured.out, captured.err


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "low.wav"
    soundfile.write(path, tiny.tone(150.0, 2.0, seed=9), tiny.RATE)
    return path


def test_help_and_import_leave_tensorflow_alone():
    code = (
        "import sys, keras_tagger, keras_tagger.cli.main as cli\n"
        "try: cli._parse(['keras-tagger', '--help'])\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "heavy = {'tensorflow', 'keras', 'kapre', 'sklearn', 'matplotlib', 'librosa'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "keras-tagger fit configs/demo.yaml" in done.stdout


def test_tag_imports_little_beside_tensorflow(tiny_run, clip):
    code = (
        "import sys, keras_tagger.cli.main as cli\n"
        "try: cli._run(cli._parse(['keras-tagger', 'tag', *sys.argv[1:]]))\n"
        "except SystemExit as stop: assert stop.code == 0\n"
        "unneeded = {'librosa', 'numba', 'tensorflow_serving', 'keras_tagger.train', 'keras_tagger.evaluation', 'pandas'}\n"
        "sys.exit(f'imported {unneeded & set(sys.modules)}' if unneeded & set(sys.modules) else 0)"
    )
    command = [sys.executable, "-c", code, str(clip), "--model", str(tiny_run.dir)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{clip}\n  ")


def test_a_wrong_command_line_is_status_2():
    done = run("tag")
    assert done.returncode == 2
    assert "FILE" in done.stderr


def test_tag_as_text_json_and_csv_agree(capsys, tiny_run, clip):
    expected = tiny_run.tagger.tag(clip, top=2).as_dict()
    status, out, _ = call(capsys, "tag", clip, "--model", tiny_run.dir, "--top", 2)
    lines = out.splitlines()
    assert (status, lines[0], len(lines)) == (0, str(clip), 3)
    assert [line.split()[:2] for line in lines[1:]] == [[tag, f"{score:.3f}"] for tag, score in expected.items()]
    status, out, _ = call(capsys, "tag", clip, "--model", tiny_run.dir, "--top", 2, "--json")
    found = json.loads(out)
    assert (status, found["file"], list(found["tags"])) == (0, str(clip), list(expected))
    assert found["tags"] == pytest.approx(expected, abs=1e-6)
    assert found["present"] == [tag for tag, score in expected.items() if score >= 0.5]
    assert found["unheard"] == []
    status, out, _ = call(capsys, "tag", clip, "--model", tiny_run.dir, "--top", 2, "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["file"], row["tag"]) for row in rows] == [(str(clip), tag) for tag in expected]
    assert [float(row["score"]) for row in rows] == pytest.approx(list(expected.values()), abs=1e-6)
    assert [(row["present"], row["unheard"]) for row in rows] == [
        (str(int(expected[row["tag"]] >= 0.5)), "0") for row in rows
    ]


def test_tag_with_the_packages_weights(capsys, tiny_run, clip, tmp_path, monkeypatch):
    """Without --model; a tag that was not heard, one over its threshold, and synonyms."""
    monkeypatch.setattr(packaged, "weights_folder", lambda: tmp_path / "weights")
    renamed = tiny_run.tagger.select(["high", "low", "mid"], {"high": "voice", "low": "singing"})
    renamed.info = {"voice": TagInfo(has_evidence=False), "singing": TagInfo(0.01), "mid": TagInfo(0.999)}
    packaged.write_packaged(renamed, "compact", "Tones.", {}, "", tmp_path / "weights")
    expected = load("compact").tag(clip)
    status, out, _ = call(capsys, "tag", clip)
    scores = expected.as_dict()
    assert (status, out.splitlines()[0]) == (0, str(clip))
    assert sorted(out.splitlines()[1:]) == sorted(
        [
            f"  singing  {scores['singing']:.3f} *",
            f"  voice    {scores['voice']:.3f}  not heard in training",
            f"  mid      {scores['mid']:.3f}",
        ]
    )
    status, out, _ = call(capsys, "tag", clip, "--json")
    assert json.loads(out) == {
        **{"file": str(clip), "tags": pytest.approx(scores, abs=1e-6), "present": ["singing"], "unheard": ["voice"]}
    }
    status, out, _ = call(capsys, "tag", clip, "--merge_synonyms", "--csv", "--model", "compact")
    rows = {row["tag"]: row for row in csv.DictReader(io.StringIO(out))}
    assert (status, sorted(rows)) == (0, ["mid", "voice"])
    # The one that was heard speaks for both.
    assert float(rows["voice"]["score"]) == pytest.approx(scores["singing"], abs=1e-6)
    assert (rows["voice"]["present"], rows["voice"]["unheard"]) == ("1", "0")
    status, _, err = call(capsys, "tag", clip, "--model", "compct")
    assert status == 1
    assert "expected a pretrained name (compact), a run directory or a .keras file. Received: 'compct'" in err


def test_a_bad_file_among_good_ones_is_told_and_skipped(capsys, tiny_run, clip, tmp_path):
    bad = tmp_path / "notes.mp3"
    bad.write_text("no music here")
    status, out, err = call(capsys, "tag", bad, clip, tmp_path / "gone.wav", "--model", tiny_run.dir, "--json")
    assert status == 1
    assert [json.loads(line)["file"] for line in out.splitlines()] == [str(clip)]
    messages = [line for line in err.splitlines() if line.startswith("keras-tagger: ")]
    assert len(messages) == 2
    assert str(bad) in messages[0]
    assert "gone.wav" in messages[1]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_files_of_any_name(monkeypatch, tiny_run, clip, encoding):
    """A name that stdout's encoding has not, and one that is no text, are tagged like all others."""
    names = [b"\xc3\xbc\xe9\x9f\xb3.wav", b"latin-\xfc.wav", b'two\nlines, "quoted".wav']
    files = [os.path.join(os.fsencode(clip.parent), name) for name in names]
    for file in files:
        os.link(clip, file)

    def tag(*options: str) -> bytes:
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors="strict"))
        command = [
            "keras-tagger",
            "tag",
            *map(os.fsdecode, files),
            "--model",
            str(tiny_run.dir),
            "--top",
            "1",
            *options,
        ]
        with pytest.raises(SystemExit) as stopped:
            cli._run(cli._parse(command))
        sys.stdout.flush()
        assert stopped.value.code == 0
        return written.getvalue()

    told = [json.loads(line)["file"] for line in tag("--json").decode("utf-8").splitlines()]
    assert [os.fsencode(file) for file in told] == files
    if encoding == "utf-8":
        rows = list(csv.DictReader(io.StringIO(tag("--csv").decode("utf-8", "surrogateescape"))))
        assert [os.fsencode(row["file"]) for row in rows] == files
    else:
        assert b"\\xfc\\u97f3.wav\n" in tag()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_a_full_disk_is_one_sentence(tiny_run, clip, tmp_path):
    command = [sys.executable, "-m", "keras_tagger", "tag", str(clip), "--model", str(tiny_run.dir)]
    # Without a cache of matplotlib's, as after an installation: nothing is said of fonts.
    environment = {**os.environ, "MPLCONFIGDIR": str(tmp_path / "fonts")}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert done.returncode == 1
    told = [line for line in done.stderr.splitlines() if line.startswith("keras-tagger: ")]
    assert len(told) == 1
    assert told[0].startswith("keras-tagger: expected to read and write files ([Errno 28]")
    assert "Traceback" not in done.stderr
    assert "font" not in done.stderr


@pytest.mark.parametrize("text", [None, "", "{", "[]", '{"compact": {}}'], ids=repr)
def test_a_damaged_registry_is_one_sentence(capsys, clip, tmp_path, monkeypatch, text):
    monkeypatch.setattr(packaged, "weights_folder", lambda: tmp_path)
    if text is not None:
        (tmp_path / "registry.json").write_text(text)
    status, out, err = call(capsys, "tag", clip)
    assert (status, out) == (1, "")
    assert err.startswith("keras-tagger: expected the registry of packaged weights")
    assert err.count("\n") == 1
    assert str(tmp_path / "registry.json") in err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "keras-tagger: interrupted\n"),
        (ConfigError("name: expected a file name."), 1, "keras-tagger: name: expected a file name.\n"),
        (BrokenPipeError(32, "Broken pipe"), 0, ""),
        (OSError(5, "Bad disk"), 1, "keras-tagger: expected to read and write files ([Errno 5] Bad disk)\n"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_exit_status_of_what_ends_a_command(capsys, monkeypatch, error, status, said):
    def command(arguments):
        raise error

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # which a failing write replaces
    with pytest.raises(SystemExit) as stopped:
        cli._run(argparse.Namespace(command=command))
    assert (stopped.value.code, capsys.readouterr().err) == (status, said)


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli._parse(["keras-tagger", "--version"])
    assert (stopped.value.code, capsys.readouterr().out) == (0, f"keras_tagger {__version__}\n")


@pytest.mark.parametrize("number", ["0", "-3", "2.5", "all", ""])
def test_top_is_a_whole_number(capsys, number):
    with pytest.raises(SystemExit) as stopped:
        cli._parse(["keras-tagger", "tag", "a.wav", f"--top={number}"])
    assert stopped.value.code == 2
    message = f"argument --top: expected a whole number of at least 1, received {number!r}"
    assert capsys.readouterr().err.splitlines()[-1].endswith(message)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fit", "absent.yaml"), "absent.yaml, which does not exist"),
        (("fit", {"training": {"epochs": 0}}), "training.epochs: expected at least 1. Received: 0."),
        (("fit", {"model": {"encodr": {}}}), "model.encodr: unknown key"),
        (("fit", {}), "data.path: expected a manifest"),
        (("tag", "x.wav", "--model", "absent"), "'absent', which does not exist"),
        (("evaluate", "absent.keras", "--data", "x"), "'absent.keras', which does not exist"),
        (("fit", {"training": {"init": "absent"}}), "training.init: expected a pretrained name"),
        (("fit", {"training": {"freeze": "front_end"}}), "training.freeze: expected none where training.init is empty"),
        (("serve", "absent"), "absent"),
        (("serve",), "serve: expected DIR or --model_config_file. Received: neither."),
        (("serve", "absent", "--port", "1", "--rest_api_port", "1"), "expected another port than --port"),
        (("export",), "expected MODEL and DIR, or --check DIR. Received: neither."),
        (("export", "only"), "expected MODEL and DIR, or --check DIR. Received: only."),
        (("export", "--check", "absent"), "expected a SavedModel, or a folder with numbered versions of one"),
        (("data", "check", "absent.csv"), "absent.csv"),
        (("data", "prepare", "absent", "--out", "x"), "absent"),
    ],
    ids=lambda value: "-".join(str(part) for part in value)[:40] if isinstance(value, tuple) else "",
)
def test_mistakes_get_one_sentence(capsys, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    if isinstance(arguments[-1], dict):
        (tmp_path / "config.yaml").write_text(json.dumps(arguments[-1]))
        arguments = (*arguments[:-1], "config.yaml")
    status, out, err = call(capsys, *arguments)
    assert (status, out) == (1, "")
    message = [line for line in err.splitlines() if line.startswith("keras-tagger: ")]
    assert len(message) == 1
    assert said in message[0]
    assert "Traceback" not in err


def test_fit_set_resume_evaluate(capsys, tones, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(json.dumps(tiny.CONFIG))
    fit = ("fit", config, "--data", tones, "--run-dir", tmp_path / "run", "--set", "training.epochs=1")
    status, out, _ = call(capsys, *fit)
    assert status == 0
    assert out.startswith("6 clips of split test: macro ROC-AUC ")
    assert out.splitlines()[-1] == f"run directory: {tmp_path / 'run'}"
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert written["training"]["epochs"] == 1
    status, _, err = call(capsys, *fit)
    assert status == 1
    assert "which holds a run" in err
    assert call(capsys, *fit, "--resume")[0] == 0
    status, out, _ = call(
        capsys, "evaluate", tmp_path / "run", "--data", tones, "--split", "valid", "--out", tmp_path / "report"
    )
    assert status == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert (report["split"], report["n_clips"]) == ("valid", 6)
    (row,) = csv.DictReader((tmp_path / "run" / "history.csv").open(newline=""))
    assert report["roc_auc"] == pytest.approx(float(row["valid_roc_auc"]))
    assert f"{report['roc_auc']:.4f}" in out


def test_data_check_and_prepare(capsys, tones, tmp_path):
    status, out, _ = call(capsys, "data", "check", tones, "--json")
    assert (status, json.loads(out)["clips"]) == (0, 24)
    rows = tones.read_text().splitlines()
    broken = tones.parent / "broken.csv"
    (tones.parent / "broken.mp3").write_bytes(b"")
    broken.write_text("\n".join([*rows, "broken.mp3,low,train"]) + "\n")
    status, out, _ = call(capsys, "data", "check", broken)
    assert status == 1
    assert "broken.mp3" in out
    status, out, _ = call(capsys, "data", "prepare", broken, "--out", tmp_path / "prepared")
    assert status == 0
    lines = [line.split() for line in out.splitlines()]
    assert [line[:3] for line in lines[:3]] == [
        ["train", "12", "clips"],
        ["valid", "6", "clips"],
        ["test", "6", "clips"],
    ]
    assert out.splitlines()[3] == f"1 files left out; prepared: {tmp_path / 'prepared'}"
    assert (tmp_path / "prepared" / "index.json").exists()


def test_data_prepare_with_splits_of_its_own(capsys, tones, tmp_path):
    bare = tones.parent / "bare.csv"
    bare.write_text("\n".join(row.rsplit(",", 1)[0] for row in tones.read_text().splitlines()) + "\n")
    how = ("--valid", 0.25, "--test", 0.125, "--seed", 4, "--sample_rate", 8000, "--workers", 1)
    status, out, err = call(capsys, "data", "prepare", bare, "--out", tmp_path / "prepared", *how)
    assert status == 0, err
    prepared = open_prepared(tmp_path / "prepared")
    assert prepared.sample_rate == 8000
    wanted = {clip.path: clip.split for clip in assign_splits(read_manifest(bare), 0.25, 0.125, 4).clips}
    assert {clip.path: clip.split for clip in prepared.clips} == wanted
    assert wanted != {clip.path: clip.split for clip in assign_splits(read_manifest(bare), 0.25, 0.125).clips}
    for line, split in zip(out.splitlines(), ("train", "valid", "test"), strict=False):
        hours = sum(clip.seconds for clip in prepared.select(split)) / 3600
        assert line.split() == [split, str(prepared.n_clips(split)), "clips", f"{hours:.2f}", "h"]


@pytest.mark.e2e
def test_export_serve_request_stop(capsys, tiny_run, clip, tmp_path):
    """Through real processes; `request` agrees with `tag` and a raw client with both."""
    status, out, _ = call(capsys, "export", tiny_run.dir, tmp_path / "exported")
    assert (status, out.strip()) == (0, str(tmp_path / "exported" / "1"))
    port = free_port()
    command = [sys.executable, "-m", "keras_tagger", "serve", str(tmp_path / "exported"), "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        wait_until_ready(server)
        expected = tiny_run.tagger.tag(clip, top=3).as_dict()
        status, out, _ = call(capsys, "request", clip, "--server", f"localhost:{port}", "--json")
        assert (status, json.loads(out)["tags"]) == (0, pytest.approx(expected, abs=1e-5))
        status, out, _ = call(capsys, "request", clip, "--server", f"localhost:{port}", "--signature", "attention")
        answer = json.loads(out)["attention"]
        heatmap = tiny_run.tagger.attention(clip).heatmap()
        np.testing.assert_allclose(answer["heatmap"], heatmap.values[0], atol=1e-5)
        np.testing.assert_allclose(answer["times"], heatmap.times, atol=1e-5)
        status, out, _ = call(capsys, "request", clip, "--server", f"localhost:{port}", "--signature", "contributions")
        answer, heatmap = json.loads(out)["contributions"], tiny_run.tagger.contributions(clip)
        assert tuple(answer["tags"]) == heatmap.tags
        np.testing.assert_allclose(answer["contributions"], heatmap.values, atol=1e-5)
        status, out, _ = call(capsys, "request", clip, "--server", f"localhost:{port}", "--signature", "embedding")
        np.testing.assert_allclose(json.loads(out)["embedding"], tiny_run.tagger.embed(clip), atol=1e-5)
        two = ("request", clip, clip, "--server", f"localhost:{port}", "--top", 1, "--model_version", 1)
        best, score = max(expected.items(), key=lambda pair: pair[1])
        assert call(capsys, *two)[:2] == (0, f"{clip}\n  {best}  {score:.3f}\n" * 2)
        status, out, _ = call(capsys, *two, "--csv")
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [(row["file"], row["tag"], list(row)) for row in rows] == [
            (str(clip), best, ["file", "tag", "score"])
        ] * 2
        example = Path(__file__).parents[2] / "examples" / "raw_client.py"
        done = subprocess.run(
            [sys.executable, str(example), str(clip), f"localhost:{port}"], capture_output=True, text=True, check=True
        )
        best = f"{max(expected.values()):.3f}".rstrip("0")
        assert done.stdout.startswith(f"tags: [{best}")
        status, _, err = call(capsys, "request", clip, "--server", f"localhost:{port}", "--model_name", "other")
        assert status == 1
        assert "NOT_FOUND: Servable not found for request: Latest(other)" in err
    finally:
        server.terminate()
    assert server.wait(timeout=60) == 0
    status, _, err = call(capsys, "request", clip, "--server", f"localhost:{port}")
    assert status == 1
    assert "UNAVAILABLE" in err


def free_port() -> int:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until_ready(server: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 120
    assert server.stderr is not None
    for line in server.stderr:
        if "serving keras_tagger version 1" in line:
            return
        assert time.monotonic() < end
    pytest.fail("the server ended before it was ready")
