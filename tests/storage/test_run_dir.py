"""The names in a run directory, which users and older runs rely on."""

from __future__ import annotations

from pathlib import Path

from keras_tagger.storage.run_dir import RunDir


def test_the_names_are_those_of_the_format() -> None:
    run = RunDir("runs/demo")
    assert run.path == Path("runs/demo")
    assert run == RunDir(Path("runs/demo"))
    paths = (run.config, run.tags_text, run.tags_json, run.manifest, run.model, run.checkpoint, run.logs, run.history)
    assert [path.relative_to(run.path).as_posix() for path in (*paths, run.report, run.imported)] == [
        *("config.yaml", "tags.txt", "tags.json", "manifest.csv", "model.keras", "checkpoints/last.npz", "logs"),
        *("history.csv", "report.json", "imported.json"),
    ]
