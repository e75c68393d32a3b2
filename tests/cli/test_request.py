"""The commands `export`, `serve` and `request`."""

from __future__ import annotations

import csv
import io
import json
import socket
import subprocess
import sys

import numpy as np
import pytest

from keras_tagger.errors import AudioError
from keras_tagger.heatmap import Heatmap
from keras_tagger.tags import Tags


@pytest.mark.e2e
def test_export_serve_request_stop(call, tiny_run, clip, tmp_path, export_only):
    """Through real processes; `request` agrees with `tag`. tests/serving/test_examples.py has the raw client."""
    export_only("serving_default", "classify", "attention", "contributions", "embedding", "tag_info")
    status, out, _ = call("export", tiny_run.dir, tmp_path / "exported")
    assert (status, out.strip()) == (0, str(tmp_path / "exported" / "1"))
    port = free_port()
    command = [sys.executable, "-m", "keras_tagger", "serve", str(tmp_path / "exported"), "--port", str(port)]
    # Warm-up takes longer than these requests; tests/serving/test_fuzz.py serves an export with it.
    command.append("--enable_model_warmup=false")
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        expected = tiny_run.tagger.tag(clip, top=3).to_dict()
        # The server has only been started.
        status, out, _ = call("request", clip, "--server", f"localhost:{port}", "--json", "--wait")
        reply = json.loads(out)
        assert (status, reply["tags"]) == (0, pytest.approx(expected, abs=1e-5))
        status, out, _ = call("request", clip, "--server", f"localhost:{port}", "--signature", "attention")
        answer = json.loads(out)["attention"]
        heatmap = tiny_run.tagger.attention(clip).heatmap()
        np.testing.assert_allclose(answer["heatmap"], heatmap.values[0], atol=1e-5)
        np.testing.assert_allclose(answer["times"], heatmap.times, atol=1e-5)
        status, out, _ = call("request", clip, "--server", f"localhost:{port}", "--signature", "contributions")
        answer, heatmap = json.loads(out)["contributions"], tiny_run.tagger.contributions(clip)
        assert tuple(answer["tags"]) == heatmap.tags
        np.testing.assert_allclose(answer["contributions"], heatmap.values, atol=1e-5)
        status, out, _ = call("request", clip, "--server", f"localhost:{port}", "--signature", "embedding")
        np.testing.assert_allclose(json.loads(out)["embedding"], tiny_run.tagger.embed(clip), atol=1e-5)
        two = ("request", clip, clip, "--server", f"localhost:{port}", "--top", 1, "--model_version", 1)
        best, score = max(expected.items(), key=lambda pair: pair[1])
        star = " *" if best in reply.get("present", ()) else ""
        assert call(*two)[:2] == (0, f"{clip}\n  {best}  {score:.3f}{star}\n" * 2)
        status, out, _ = call(*two, "--csv")
        rows = list(csv.DictReader(io.StringIO(out)))
        assert [(row["file"], row["tag"], float(row["score"])) for row in rows] == [
            (str(clip), best, pytest.approx(score, abs=1e-5))
        ] * 2
        streamed = ("request", "missing.wav", clip, "--server", f"localhost:{port}", "--stream", "--top", 3)
        status, out, _ = call(*streamed, "--signature", "contributions")
        missing, *windows, whole = map(json.loads, out.splitlines())
        assert (status, "does not exist" in missing["error"]) == (1, True)
        assert whole["tags"] == pytest.approx(expected, abs=1e-5)
        columns = np.concatenate([[window["contributions"][tag] for tag in heatmap.tags] for window in windows], 1)
        np.testing.assert_allclose(columns, heatmap.values, atol=1e-5)
        assert windows[0]["start_seconds"] == 0
        status, _, err = call("request", clip, "--server", f"localhost:{port}", "--model_name", "other")
        assert status == 1
        assert "NOT_FOUND: Servable not found for request: Latest(other)" in err
    finally:
        server.terminate()
    assert server.wait(timeout=60) == 0
    status, _, err = call("request", clip, "--server", f"localhost:{port}")
    assert status == 1
    assert "UNAVAILABLE" in err


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.parametrize(
    ("flags", "received"), [(("--csv",), "tags as csv"), (("--signature", "embedding"), "embedding as jsonl")]
)
def test_a_stream_is_lines_of_tags_or_contributions(call, flags, received):
    status, out, err = call("request", "song.mp3", "--stream", *flags)
    assert (status, out) == (1, "")
    assert f"--stream: expected --signature tags or contributions, as jsonl. Received: {received}." in err


@pytest.mark.parametrize("signature", ["attention", "contributions", "embedding"])
@pytest.mark.parametrize(
    ("flags", "form"), [(("--csv",), "csv"), (("--output", "a.csv"), "csv"), (("--format", "table"), "table")]
)
def test_maps_and_embeddings_are_json_only(call, signature, flags, form):
    status, out, err = call("request", "song.mp3", "--signature", signature, *flags)
    assert (status, out) == (1, "")
    assert err == f"keras-tagger: --format: expected json or jsonl for --signature {signature}. Received: {form}.\n"


class ScriptedClient:
    """Answers without a server. Thresholds and evidence are known if the model is called "known"."""

    def __init__(self, address: str, model_name: str, timeout: float, **options: object) -> None:
        assert (address, timeout, options["retries"], options["tls"]) == ("example:1", 2.0, 3, None)
        self.known = model_name == "known"

    def __enter__(self) -> ScriptedClient:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def tag(self, file: str, top: int, merge_synonyms: bool, rank: str) -> Tags:
        if file == "bad.mp3":
            raise AudioError("expected audio. Received: bad.mp3.")
        assert (top, merge_synonyms, rank) == (2, True, "margin")
        flags = (np.array([True, False]), np.array([True, False])) if self.known else (None, None)
        margins = np.array([1.5, np.nan], np.float32) if self.known else None
        return Tags(("guitar", "sax"), np.array([0.75, 0.25], np.float32), *flags, margins=margins)

    def heatmap(self, file: str, kind: str = "contributions") -> Heatmap:
        return Heatmap(
            np.array([[0.25, 1.0]]), ("[CLS]" if kind == "attention" else "sax",), np.array([0.5, 1.5]), kind
        )


@pytest.fixture
def ask(call, monkeypatch):
    monkeypatch.setattr("keras_tagger.client.client.Client", ScriptedClient)
    return lambda *arguments: call("request", "--server", "example:1", "--timeout", 2, "--retries", 3, *arguments)


@pytest.mark.parametrize(
    ("model", "text", "extra", "columns"),
    [
        (
            "known",
            ["  guitar  0.750  +1.50 *", "  sax     0.250  not heard in training"],
            {"present": ["guitar"], "unheard": ["sax"], "margins": {"guitar": 1.5, "sax": None}},
            ["1,0,1.500000", "0,1,"],
        ),
        ("unknown", ["  guitar  0.750", "  sax     0.250"], {}, [",,", ",,"]),
    ],
    ids=["known", "unknown"],
)
def test_thresholds_and_evidence_are_printed_if_known(ask, model, text, extra, columns):
    how = ("bad.mp3", "a.mp3", "--model_name", model, "--top", 2, "--merge_synonyms", "--rank", "margin")
    message = "keras-tagger: expected audio. Received: bad.mp3.\n"
    assert ask(*how) == (1, "\n".join(["a.mp3", *text, ""]), message)
    status, out, _ = ask(*how, "--json")
    assert (status, [json.loads(line) for line in out.splitlines()]) == (
        1,
        [
            {"file": "bad.mp3", "error": "expected audio. Received: bad.mp3."},
            {"file": "a.mp3", "tags": {"guitar": 0.75, "sax": 0.25}, **extra, "warnings": []},
        ],
    )
    rows = [f"a.mp3,guitar,0.750000,{columns[0]}", f"a.mp3,sax,0.250000,{columns[1]}"]
    assert ask(*how, "--csv")[1].splitlines() == ["file,tag,score,present,unheard,margin", *rows]


@pytest.mark.parametrize(
    ("signature", "values"),
    [
        ("attention", {"times": [0.5, 1.5], "heatmap": [0.25, 1.0]}),
        ("contributions", {"tags": ["sax"], "times": [0.5, 1.5], "contributions": [[0.25, 1.0]]}),
    ],
)
def test_maps_are_json(ask, signature, values):
    status, out, _ = ask("a.mp3", "b.mp3", "--signature", signature)
    expected = [{"file": file, signature: values, "warnings": []} for file in ("a.mp3", "b.mp3")]
    assert (status, [json.loads(line) for line in out.splitlines()]) == (0, expected)
    status, out, _ = ask("a.mp3", "b.mp3", "--signature", signature, "--format", "json")
    assert (status, json.loads(out)) == (0, expected)
