"""Every file comes into a catalogue exactly once, whatever happens to the writer."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from made_rows import TAGS, entry, row

from keras_tagger.catalog import Catalog, Options
from keras_tagger.catalog.store import PROVENANCE, Store, packed, rows_of, shards
from keras_tagger.errors import CatalogError


def fill(folder, about, numbers, errors=(), shard_rows=10, **missing):
    """Describe what is missing; return how many files that were."""
    with Store(folder, about, shard_rows) as store:
        todo, done = store.missing([entry(number) for number in numbers], **missing)
        for one in todo:
            store.add(row(one, "damaged" if one in map(entry, errors) else None))
    return len(todo), done


def paths(folder):
    return sorted(Catalog(folder).table(["path"])["path"].to_pylist()) if shards(folder) else []


def test_a_row_keeps_all_that_is_known(tmp_path, about):
    fill(tmp_path, about, [3])
    found = pd.read_parquet(tmp_path / "tracks").iloc[0].to_dict()
    made = row(entry(3))
    assert [found[f"tag:{tag}"] for tag in TAGS] == made["scores"].tolist()
    assert found["embedding"].tolist() == made["embedding"].tolist()
    assert list(found["present"]) == made["present"]
    assert list(found["warnings"]) == made["warnings"]
    for name in ("path", "size", "mtime_ns", "seconds", "heard_seconds", *PROVENANCE):
        assert found[name] == made[name]


def test_what_is_done_is_not_done_again(tmp_path, about):
    assert fill(tmp_path, about, range(25), errors=[4, 14]) == (25, 0)
    assert len(shards(tmp_path)) == 3
    assert fill(tmp_path, about, range(30), errors=[4, 14]) == (5, 25)
    assert fill(tmp_path, about, range(30)) == (0, 30)
    assert paths(tmp_path) == [entry(number).path for number in range(30) if number not in (4, 14)]
    assert Catalog(tmp_path).errors() == [(entry(number).path, "damaged") for number in (4, 14)]


def test_errors_are_tried_again_on_request(tmp_path, about):
    fill(tmp_path, about, range(6), errors=[2, 5])
    assert fill(tmp_path, about, range(6), errors=[5], retry_errors=True) == (2, 4)
    assert paths(tmp_path) == [entry(number).path for number in range(5)]
    assert [path for path, _ in Catalog(tmp_path).errors()] == [entry(5).path]


def test_a_changed_file_has_one_row_at_every_moment(tmp_path, about):
    fill(tmp_path, about, range(20))
    changed = [entry(number, mtime_ns=8 if number in (3, 11) else 7) for number in range(20)]
    with Store(tmp_path, about) as store:
        todo, done = store.missing(changed)
        assert (todo, done) == ([changed[3], changed[11]], 18)
        assert len(paths(tmp_path)) == 18
        for one in todo:
            assert store.add(row(one))
            assert not store.add(row(one))
    table = Catalog(tmp_path).table(["path", "mtime_ns"]).to_pandas()
    assert sorted(table["path"]) == [one.path for one in changed]
    assert sorted(table["path"][table["mtime_ns"] == 8]) == [changed[3].path, changed[11].path]


def test_content_may_be_what_counts(tmp_path, about):
    about = dataclasses.replace(about, options=Options(sha256=True))
    path = tmp_path / "song.mp3"
    path.write_bytes(b"song")
    one = entry(0)._replace(path=str(path), size=4)
    with Store(tmp_path / "made", about) as store:
        store.add({**row(one), "sha256": hashlib.sha256(b"song").hexdigest()})
    with Store(tmp_path / "made", about) as store:
        touched = one._replace(mtime_ns=9)
        assert store.missing([touched], compare="content") == ([], 1)
        path.write_bytes(b"SONG")
        assert store.missing([touched], compare="content") == ([touched], 0)


def test_pruning_removes_what_is_not_named(tmp_path, about):
    fill(tmp_path, about, range(25), errors=[3, 20])
    assert fill(tmp_path, about, range(5, 22), prune=True) == (0, 17)
    assert paths(tmp_path) == [entry(number).path for number in range(5, 22) if number != 20]
    assert [path for path, _ in Catalog(tmp_path).errors()] == [entry(20).path]


FILES = [entry(number, 7 if number % 5 else 8) for number in range(16)]


def complete(folder, about):
    with Store(folder, about, 6) as store:
        for one in store.missing(FILES)[0]:
            assert store.add(row(one, "damaged" if one.size % 9 == 0 else None))


# Runs in a fresh process, which forks the writers: after a fork, pyarrow must not have used its threads before.
WRITERS = """
import itertools, os, pathlib, shutil, signal, sys
sys.path.insert(0, os.path.dirname(sys.argv[1]))
import pyarrow.ipc, pyarrow.parquet
import test_store
from keras_tagger.catalog.store import read_about
folder = pathlib.Path(sys.argv[2])
steps, step = 10**9, 0
while step <= steps:
    begun = folder / f"killed{step}"
    shutil.copytree(folder / "begun", begun)
    child = os.fork()
    if child == 0:
        operations = itertools.count(1)
        def counted(function):
            def run(*arguments, **options):
                if next(operations) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **options)
            return run
        for owner, names in (
            (os, ["replace", "fsync"]),
            (pathlib.Path, ["unlink"]),
            (pyarrow.parquet, ["write_table"]),
            (pyarrow.ipc, ["new_stream"]),
        ):
            for name in names:
                setattr(owner, name, counted(getattr(owner, name)))
        test_store.complete(begun, read_about(begun))
        (begun / "steps").write_text(str(next(operations) - 1))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL if step else status == 0, (step, status)
    steps = int((folder / "killed0" / "steps").read_text())
    step += 1
"""


def test_a_writer_that_is_killed_at_any_step(tmp_path, about):
    """Kill it before its first, second, ... operation on a file; the next writer completes the same table."""
    fill(tmp_path / "begun", about, range(9), errors=[8], shard_rows=6)
    words = [sys.executable, "-c", WRITERS, __file__, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=250)
    assert done.returncode == 0, done.stderr
    folders = sorted(tmp_path.glob("killed*"))
    assert len(folders) > 15

    def result(folder):
        found = paths(folder)
        assert len(found) == len(set(found)), folder
        complete(folder, about)
        table = Catalog(folder).table().to_pandas().sort_values("path")
        return [str(one) for one in table.to_dict("records")], Catalog(folder).errors()

    wanted = result(tmp_path / "killed0")
    assert len(wanted[0]) + len(wanted[1]) == 16
    for folder in folders:
        assert result(folder) == wanted, folder


def test_a_torn_write_loses_only_itself(tmp_path, about):
    store = Store(tmp_path, about)
    for number in range(9):
        store.add(row(entry(number)))
        store._flush()  # noqa: SLF001  (as after a second)
    content = (tmp_path / ".pending.arrows").read_bytes()
    store.__exit__(None, None, None)
    for shard in shards(tmp_path):
        shard.unlink()
    (tmp_path / ".pending.arrows").write_bytes(content[:-100])
    assert fill(tmp_path, about, range(9)) == (1, 8)
    assert paths(tmp_path) == [entry(number).path for number in range(9)]


def test_one_writer_and_one_model_per_catalogue(tmp_path, about):
    with Store(tmp_path, about), pytest.raises(CatalogError, match="catalogue that no other process is writing"):
        Store(tmp_path, about)
    with pytest.raises(CatalogError, match=r"expected the weights that .* was made with, .* or another folder\. Rec"):
        Store(tmp_path, dataclasses.replace(about, weights_sha256="0b" * 32))
    with pytest.raises(CatalogError, match="expected the options that"):
        Store(tmp_path, dataclasses.replace(about, options=Options(taggram=True)))
    (tmp_path / "catalog.json").write_text("{}")
    with pytest.raises(CatalogError, match="expected a folder that keras-tagger catalog wrote"):
        Catalog(tmp_path)


def test_rows_travel_as_tables(about):
    about = dataclasses.replace(about, options=Options(taggram=True, top_contributions=1))
    made = [row(entry(1)), row(entry(2), "damaged"), row(entry(3))]
    for one in (made[0], made[2]):
        one["taggram"] = np.arange(10, dtype=np.float16).reshape(2, 5) / 16
        one["taggram_times"] = np.array([1.5, 4.0], np.float32)
        one["contributions"] = [{"tag": "guitar", "seconds": 1.5, "value": 0.75}]
    found = {one["path"]: one for one in rows_of(pa.Table.from_batches([packed(made, about)]))}
    assert len(found) == 3
    for one in made:
        for name, value in one.items():
            assert np.array_equal(found[one["path"]][name], value), name
        assert found[one["path"]].keys() == one.keys()
