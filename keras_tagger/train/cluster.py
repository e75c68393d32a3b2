"""The replicas that train one model together: the GPUs of a machine, or the workers of `TF_CONFIG`.

A worker is a process. Every worker runs the same program on the same run directory, and takes its share of each batch;
the first of them, the chief, is the only one that writes.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from keras_tagger.config import TrainingConfig
from keras_tagger.errors import ConfigError, WorkerError
from keras_tagger.layers.replicas import act_together, summed
from keras_tagger.models.music_tagger import MusicTagger

TF_CONFIG = "TF_CONFIG"


class Cluster:
    """The replicas of a run, of which some or all belong to this process.

    Args:
        strategy: The strategy of `tf.distribute`, or None for one replica without.

    Attributes:
        n_replicas: Number of replicas of all workers.
        n_workers: Number of workers.
        worker: Number of this worker.
        chief: Whether this worker writes.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None) -> None:
        self.strategy = strategy or tf.distribute.get_strategy()
        self._distributed = strategy is not None
        self.n_replicas = int(self.strategy.num_replicas_in_sync)
        self.n_workers, self.worker = 1, 0
        resolver = self.strategy.cluster_resolver
        if resolver is not None and resolver.task_type:
            jobs = resolver.cluster_spec().as_dict()
            self.n_workers = sum(len(jobs.get(job, ())) for job in ("chief", "worker"))
            self.worker = resolver.task_id + (len(jobs.get("chief", ())) if resolver.task_type == "worker" else 0)
        self.chief = self.worker == 0
        self._n_local = self.n_replicas // self.n_workers

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Return the scope in which weights and the optimiser's variables are made."""
        return self.strategy.scope() if self._distributed else contextlib.nullcontext()

    def check_batch(self, training: TrainingConfig) -> None:
        """Check that a batch can be divided among the replicas.

        Raises:
            ConfigError: If it cannot.
        """
        if training.batch_size % (self.n_replicas * training.accumulate_steps):
            raise ConfigError(
                f"training.batch_size: expected a multiple of {self.n_replicas * training.accumulate_steps} "
                f"({self.n_replicas} replicas, training.accumulate_steps {training.accumulate_steps}). "
                f"Received: {training.batch_size}."
            )

    def connect(self, model: MusicTagger) -> None:
        """Let a model's layers act on the batches of all replicas as on one."""
        if self.n_replicas > 1:
            act_together(model)

    def step(self, model: MusicTagger, waveform: tf.Tensor, target: Any, parts: int) -> tf.Tensor:
        """Make one training step on this worker's share of a batch, and return the loss of the whole batch.

        Args:
            model: The model.
            waveform: float32 `[rows, samples]`; see `keras_tagger.data.pipeline.training_dataset`.
            target: Labels, or (labels, stretches, bounds), of as many rows.
            parts: Number of parts that follow each other in these rows.
        """

        def share(index: Any) -> list[tf.Tensor]:
            place = tf.distribute.get_replica_context().replica_id_in_sync_group % self._n_local

            def own(values: tf.Tensor) -> tf.Tensor:
                if parts == self._n_local == 1:
                    return values
                size = values.shape[0] // (parts * self._n_local)
                return tf.reshape(values, [parts, self._n_local, size, *values.shape[1:]])[index, place]

            loss, gradients, _ = model.gradients(tf.nest.map_structure(own, (waveform, target)), index)
            return summed([loss, *gradients])

        def part(index: Any) -> list[tf.Tensor]:
            results = self.strategy.run(share, args=(index,))
            return [self.strategy.experimental_local_results(result)[0] for result in results]

        # A loop of the graph holds the activations of one part at a time. Replicas cannot meet inside of a loop of
        # their own.
        def add(index: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            return index + 1, *(total + value for total, value in zip(sums, part(index), strict=True))

        if parts == 1:
            loss, *gradients = part(0)
        else:
            zeros = [tf.zeros([]), *(tf.zeros(weight.shape) for weight in model.trainable_weights)]
            _, *sums = tf.while_loop(
                lambda index, *_: index < parts, add, (tf.constant(0), *zeros), parallel_iterations=1
            )
            loss, *gradients = [total / parts for total in sums]
        # Outside of the replicas, the optimiser clips the gradient of the whole batch, not the shares.
        model.apply_gradients(gradients)
        return loss

    def from_chief(self, values: Sequence[float]) -> list[float]:
        """Return the chief's values to all workers, when all have called this."""
        if self.n_workers == 1:
            return list(values)
        own = tf.constant([float(value) for value in values], tf.float64)
        return [float(value) for value in self._broadcast(own)]

    def wait(self) -> None:
        """Return when all workers have called this."""
        self.from_chief([0.0])

    @property
    def distributed(self) -> bool:
        """Whether variables belong to a strategy; they work in this process only."""
        return self._distributed

    @functools.cached_property
    def _broadcast(self) -> Callable[[tf.Tensor], Any]:
        def replica(values: tf.Tensor) -> tf.Tensor:
            first = tf.distribute.get_replica_context().replica_id_in_sync_group == 0
            return summed(tf.where(first, values, tf.zeros_like(values)))

        def broadcast(values: tf.Tensor) -> tf.Tensor:
            return self.strategy.experimental_local_results(self.strategy.run(replica, args=(values,)))[0]

        return tf.function(broadcast, autograph=False)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Raise a `WorkerError` if another worker stops."""
        try:
            yield
        except tf.errors.OpError as error:
            gone = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError)
            if self.n_workers == 1 or not (isinstance(error, gone) or "ollective" in str(error)):
                raise
            raise WorkerError(
                f"expected {self.n_workers} workers until the end. Received: one that stopped, so worker {self.worker} "
                f"stops too ({type(error).__name__}). Run all of them again with --resume."
            ) from error


def join(training: TrainingConfig) -> Cluster:
    """Return the replicas that `training.strategy` asks for; for "multi_worker", wait for the other workers.

    It must be called before TensorFlow computes anything in this process.

    Raises:
        ConfigError: If there are no workers to join, or the batch cannot be divided among them.
    """
    strategy = None
    if training.strategy == "mirrored":
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in devices])
    elif training.strategy == "multi_worker":
        strategy = _multi_worker(os.environ.get(TF_CONFIG, ""))
    cluster = Cluster(strategy)
    cluster.check_batch(training)
    return cluster


@functools.cache
def _multi_worker(text: str) -> tf.distribute.Strategy:
    if not text:
        raise ConfigError(
            "training.strategy: expected --workers or the environment variable TF_CONFIG for multi_worker; "
            "none trains in one process. Received: neither."
        )
    try:
        config = json.loads(text)
        jobs, task = config["cluster"], config["task"]
        known = set(jobs) <= {"chief", "worker"} and 0 <= int(task["index"]) < len(jobs[task["type"]])
    except (ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise ConfigError(
            'TF_CONFIG: expected JSON such as {"cluster": {"worker": ["host:port", "host:port"]}, "task": {"type": '
            f'"worker", "index": 0}}}}. Received: {text}'
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ConfigError(
            "training.strategy: expected multi_worker in a process that has not used TensorFlow before. "
            f"Received: {error}"
        ) from None
    except tf.errors.OpError as error:
        raise WorkerError(f"expected the workers of TF_CONFIG. Received: {error.message}") from None
