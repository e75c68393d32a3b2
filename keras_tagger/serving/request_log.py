"""The log of requests and replies that the `logging_config` of a model asks for.

A sample of the requests is written to TFRecord files of `PredictionLog`, the format of warm-up requests, named
PREFIX-TIME-PROCESS-NUMBER.tfrecord. TensorFlow Serving reads the same configuration, but its open-source build has no
collector and refuses it.
"""

from __future__ import annotations

import os
import queue
import random
import threading
import time
from typing import Any

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import logging_config_pb2

from keras_tagger.serving import log
from keras_tagger.serving.status import invalid_argument

TYPE = "tfrecord"
# Then a new file is begun.
MAX_FILE_BYTES = 2**28
# Records that wait to be written; more are left out, so that a slow disk delays no request.
MAX_WAITING = 64

_FIELDS = {
    "Predict": "predict_log",
    "Classify": "classify_log",
    "Regress": "regress_log",
    "MultiInference": "multi_inference_log",
}


def check(config: logging_config_pb2.LoggingConfig) -> None:
    """Check the logging_config of a model.

    Raises:
        StatusError: If it is not one that this server can follow.
    """
    collector, rate = config.log_collector_config, config.sampling_config.sampling_rate
    if collector.type != TYPE:
        raise invalid_argument(f"expected a log_collector_config of type {TYPE!r}. Received: {collector.type!r}.")
    if not collector.filename_prefix:
        raise invalid_argument("expected a filename_prefix in log_collector_config. Received: none.")
    if not 0.0 <= rate <= 1.0:
        raise invalid_argument(f"expected a sampling_rate of 0 to 1. Received: {rate:g}.")


class RequestLogs:
    """The logs of all models of a server."""

    def __init__(self) -> None:
        self._writers: dict[str, _Writer] = {}
        self._lock = threading.Lock()

    def add(
        self, config: logging_config_pb2.LoggingConfig, version: int, method: str, request: Any, response: Any
    ) -> None:
        """Log a request of a model with this configuration, and its reply, if they are in the sample."""
        if random.random() >= config.sampling_config.sampling_rate:
            return
        record = prediction_log_pb2.PredictionLog()
        entry = getattr(record, _FIELDS[method])
        entry.request.CopyFrom(request)
        entry.response.CopyFrom(response)
        metadata = record.log_metadata
        spec = request.tasks[0].model_spec if method == "MultiInference" else request.model_spec
        metadata.model_spec.CopyFrom(spec)
        metadata.model_spec.version.value = version
        metadata.sampling_config.CopyFrom(config.sampling_config)
        if "timestamp_secs" in metadata.DESCRIPTOR.fields_by_name:  # not in older releases
            metadata.timestamp_secs = int(time.time())
        prefix = config.log_collector_config.filename_prefix
        with self._lock:
            if prefix not in self._writers:
                self._writers[prefix] = _Writer(prefix)
            writer = self._writers[prefix]
        writer.add(record.SerializeToString())

    def close(self) -> None:
        """Write what waits, and close the files."""
        with self._lock:
            writers, self._writers = list(self._writers.values()), {}
        for writer in writers:
            writer.close()


class _Writer:
    """Writes records to files, in a thread."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self._left_out = False
        self._thread = threading.Thread(target=self._write, name="request-log", daemon=True)
        self._thread.start()

    def add(self, record: bytes) -> None:
        """Write a record soon, or leave it out if too many wait."""
        try:
            self._waiting.put_nowait(record)
            self._left_out = False
        except queue.Full:
            if not self._left_out:
                log.warning("requests not logged: the disk is too slow", prefix=self._prefix)
            self._left_out = True

    def close(self) -> None:
        """Write what waits, and close the file."""
        self._waiting.put(None)
        self._thread.join()

    def _write(self) -> None:
        record: bytes | None = b""
        number = 0
        while record is not None:
            if (record := self._waiting.get()) is None:
                return
            number += 1
            try:
                record = self._write_file(record, number)
            except (OSError, tf.errors.OpError) as error:
                log.error("requests not logged", prefix=self._prefix, reason=" ".join(str(error).split())[:300])

    def _write_file(self, record: bytes | None, number: int) -> bytes | None:
        """Write records to a new file until it is full, and return the last one; None at the end."""
        stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        size = 0
        os.makedirs(os.path.dirname(os.path.abspath(self._prefix)), exist_ok=True)
        with tf.io.TFRecordWriter(f"{self._prefix}-{stamp}-{os.getpid()}-{number}.tfrecord") as file:
            while record is not None:
                file.write(record)
                file.flush()
                size += len(record)
                if size >= MAX_FILE_BYTES:
                    break
                record = self._waiting.get()
        return record
