"""Training on several workers: the numbers are those of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tiny
from keras_tagger.config import config_from_dict
from keras_tagger.errors import ConfigError, WorkerError
from keras_tagger.models.music_tagger import MusicTagger
from keras_tagger.train import local_workers
from keras_tagger.train.cluster import Cluster, join

# Everything that could depend on how a batch is divided: batch statistics, clipping, dropout, mixup, masks, unknown
# labels.
CONFIG = tiny.merged(
    tiny.CONFIG,
    {
        "audio": {"window_seconds": 0.5},
        "model": {"encoder": {"n_layers": 1, "dropout": 0.2, "attention_dropout": 0.2}, "head": {"dropout": 0.2}},
        "training": {
            **{"clip_norm": 0.1, "weight_decay": 0.1},
            "augment": {
                **{"gain_db": 6.0, "equalize_db": 3.0, "mixup_alpha": 0.4},
                **{"n_time_masks": 1, "time_mask_frames": 10, "n_freq_masks": 1, "freq_mask_bins": 4},
            },
        },
    },
)
STEPS = 2

# Makes a few steps of one worker and writes losses and weights.
WORKER = """
import json, sys
import keras, numpy as np, tensorflow as tf
import test_cluster
import tiny
from keras_tagger.train.cluster import join

settings, out = json.loads(sys.argv[1]), sys.argv[2]
tf.config.threading.set_intra_op_parallelism_threads(1)
joined = join(test_cluster.config(settings).training)
with tiny.eager():
    found = test_cluster.steps(joined, settings)
ranks = joined.from_chief([joined.n_workers + joined.worker])
if joined.chief:
    np.savez(out, *found)
assert ranks == [joined.n_workers]
"""


def config(settings: dict[str, Any]) -> Any:
    return config_from_dict(tiny.merged(CONFIG, {"training": settings}))


def steps(joined: Cluster, settings: dict[str, Any]) -> list[np.ndarray]:
    """Return the losses of a few steps, and the weights and the state of dropout behind them."""
    import keras

    experiment = config(settings)
    training = experiment.training
    keras.utils.set_random_seed(1)
    with joined.scope():
        model = MusicTagger(tiny.TAGS, experiment.audio, experiment.model, training)
        model.build()
        optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.1, global_clipnorm=0.1)
        optimizer.build(model.trainable_variables)
    joined.connect(model)
    model.compile(optimizer=optimizer)
    tiny.randomize(model)
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, (STEPS, training.batch_size, len(tiny.TAGS))).astype(np.float32)
    labels[rng.uniform(size=labels.shape) < 0.2] = np.nan
    clips = np.stack([tiny.noise(8000, seed, training.batch_size) for seed in range(STEPS)])

    def step(waveform: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        return joined.step(model, waveform, label, training.accumulate_steps)

    losses = []
    for waveform, label in zip(clips, labels, strict=True):
        grid = (training.accumulate_steps, joined.n_workers, -1)
        own = [value.reshape(*grid, value.shape[-1])[:, joined.worker] for value in (waveform, label)]
        losses.append(step(*(tf.constant(value.reshape(-1, value.shape[-1])) for value in own)).numpy())
    return [np.array(losses), *(variable.numpy() for variable in model.variables)]


def assert_same(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4)
    for one, other in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4, rtol=2e-3)


def test_two_workers_are_as_one(tmp_path: Path) -> None:
    settings = {"strategy": "multi_worker"}
    folder = os.fspath(Path(__file__).parent)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([folder, *(path for path in sys.path if path)])}
    ports = local_workers.free_ports(2)
    command = [sys.executable, "-c", WORKER, json.dumps(settings), os.fspath(tmp_path / "found.npz")]
    addresses = [f"127.0.0.1:{port}" for port in ports]
    processes = [
        subprocess.Popen(
            command,
            env={**environment, "TF_CONFIG": local_workers.cluster_config(addresses, index)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    with tiny.eager():
        expected = steps(Cluster(), {})
    for process in processes:
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err[-2000:]
    with np.load(tmp_path / "found.npz") as stored:
        assert_same(list(stored.values()), expected)


def test_a_batch_in_parts_is_the_mean_of_their_gradients() -> None:
    over = {"model": {"encoder": {"dropout": 0.0, "attention_dropout": 0.0}, "head": {"dropout": 0.0}}}
    experiment = config_from_dict(tiny.merged(tiny.merged(tiny.CONFIG, {"audio": {"window_seconds": 0.5}}), over))
    import keras

    def trained(parts: int) -> list[np.ndarray]:
        model = MusicTagger(tiny.TAGS, experiment.audio, experiment.model, {"augment": {"gain_db": 0.0}})
        model.build()
        # Batch statistics are those of a part.
        model.freeze("statistics")
        model.compile(optimizer=keras.optimizers.SGD(0.1))
        tiny.randomize(model)
        labels = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
        with tiny.eager():
            loss = Cluster().step(model, tf.constant(tiny.noise(8000, 5, 4)), tf.constant(labels), parts)
        return [loss.numpy(), *(weight.numpy() for weight in model.trainable_weights)]

    assert_same(trained(2), trained(1))


def test_who_cannot_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ConfigError, match="expected --workers or the environment variable TF_CONFIG"):
        join(config({"strategy": "multi_worker"}).training)
    for text in ("{", "[]", '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}'):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(ConfigError, match="TF_CONFIG: expected JSON such as"):
            join(config({"strategy": "multi_worker"}).training)
    with pytest.raises(ConfigError, match="expected a multiple of training.accumulate_steps"):
        config({"batch_size": 4, "accumulate_steps": 3})


def test_a_batch_that_cannot_be_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    three = Cluster()
    three.n_replicas = 3
    with pytest.raises(ConfigError, match=r"a multiple of 3 \(3 replicas, training.accumulate_steps 1\). Received: 4"):
        three.check_batch(config({}).training)


def test_a_worker_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    two = Cluster()
    two.n_workers, two.worker = 2, 1
    with (
        pytest.raises(WorkerError, match=r"expected 2 workers .* so worker 1 stops too .* with --resume"),
        two.watched(),
    ):
        raise tf.errors.UnavailableError(None, None, "Socket closed")
    with pytest.raises(tf.errors.InvalidArgumentError), two.watched():
        raise tf.errors.InvalidArgumentError(None, None, "shapes")
    with pytest.raises(tf.errors.UnavailableError), Cluster().watched():
        raise tf.errors.UnavailableError(None, None, "no worker at all")


def test_addresses_of_workers() -> None:
    stored = json.loads(local_workers.cluster_config(["one:1", "two:2"], 1))
    assert stored == {"cluster": {"worker": ["one:1", "two:2"]}, "task": {"type": "worker", "index": 1}}
    for wrong in (["one"], ["one:x"], ["one:1", "one:1"]):
        with pytest.raises(ConfigError, match="expected different addresses host:port"):
            local_workers.cluster_config(wrong, 0)
    for index in (None, 2):
        with pytest.raises(ConfigError, match=r"--worker_index: expected 0\.\.1"):
            local_workers.cluster_config(["one:1", "two:2"], index)


def test_local_workers_end_together() -> None:
    kill = "import os, json, time; i = json.loads(os.environ['TF_CONFIG'])['task']['index']; "
    with pytest.raises(WorkerError, match="worker 1 stopped by SIGKILL. Run the command again with --resume."):
        local_workers.run_workers(2, ["-c", kill + "time.sleep(60) if i == 0 else os.kill(os.getpid(), 9)"])
    assert local_workers.run_workers(2, ["-c", kill + "time.sleep(60) if i == 0 else exit(3)"]) == 3
    assert local_workers.run_workers(2, ["-c", kill]) == 0


def test_local_workers_end_with_their_parent(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    child = (
        "import os, time; from keras_tagger.train.local_workers import end_with_parent; end_with_parent(); "
        f"open({os.fspath(mark)!r} + str(os.getpid()), 'w').close(); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"from keras_tagger.train.local_workers import run_workers; run_workers(2, ['-c', {child!r}])",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    while len(marks := list(tmp_path.iterdir())) < 2:
        assert parent.poll() is None
    parent.kill()
    parent.wait()
    for path in marks:
        pid = int(path.name.removeprefix("pid"))
        for _ in range(100):
            if not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2]:
                break
            time.sleep(0.1)
        else:
            pytest.fail(f"worker {pid} still runs")
