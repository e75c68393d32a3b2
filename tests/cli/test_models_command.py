"""The command `models`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras_tagger


def test_packaged_models_are_listed(call: Any) -> None:
    status, out, err = call("models")
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0].split() == ["name", "kind", "tags", "preset", "rate", "window", "size", "licence"]
    assert lines[1].split()[:8] == ["compact", "pretrained", "50", "compact", "16000", "Hz", "10.24", "s"]
    assert [line.split()[0] for line in lines[1:]] == list(keras_tagger.pretrained())
    assert [line.endswith(text) for line, text in zip(lines[1:], keras_tagger.pretrained().values(), strict=True)]


def test_models_in_folders_are_listed(call: Any, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.keras").write_text("no model")
    status, out, err = call("models", exported.parent, tmp_path, tmp_path / "absent")
    assert status == 1
    n_packaged = len(keras_tagger.pretrained())
    assert [line.split()[1] for line in out.splitlines()[1 + n_packaged :]] == ["export", "file"]
    assert out.splitlines()[-2].endswith("versions 1")
    assert out.splitlines()[-1].endswith("cannot be read")
    messages = err.splitlines()
    assert "absent', which does not exist" in messages[0]
    assert str(tmp_path / "broken.keras") in messages[1]
    status, out, _ = call("models", exported.parent, "--format", "json")
    found = json.loads(out)
    assert (status, [model["name"] for model in found]) == (0, [*keras_tagger.pretrained(), str(exported.parent)])
    assert (found[0]["licence"], found[-1]["versions"], found[-1]["tags"]) == ("Apache-2.0", [1], 3)
