"""Warm-up requests of a SavedModel, which a server runs before it accepts others."""

from __future__ import annotations

import os

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from keras_tagger.errors import ServingError
from keras_tagger.export.layout import WARMUP_REQUESTS
from keras_tagger.serving.inference import Inference
from keras_tagger.serving.servable import Servable, reason

MAX_WARMUP_RECORDS = 1000


def warm_up(servable: Servable) -> int:
    """Run the warm-up requests of a version, if it has any.

    Returns:
        The number of requests.

    Raises:
        ServingError: If a request fails, there are too many, or the file is not a TFRecord file.
    """
    path = os.path.join(servable.path, WARMUP_REQUESTS)
    if not tf.io.gfile.exists(path):
        return 0
    inference = Inference(servable.signatures, servable.version, servable.run)
    count = 0
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            if count >= MAX_WARMUP_RECORDS:
                raise ServingError(f"expected at most {MAX_WARMUP_RECORDS} warm-up requests. Received: more, in {path}")
            _answer(inference, record, path, count)
            count += 1
    except tf.errors.OpError as error:
        raise ServingError(f"expected a SavedModel that loads. Received: {path} ({reason(error)})") from error
    return count


def _answer(inference: Inference, record: bytes, path: str, index: int) -> None:
    try:
        log = prediction_log_pb2.PredictionLog.FromString(record)
        kind = log.WhichOneof("log_type")
        if kind == "predict_log":
            inference.predict(log.predict_log.request)
        elif kind == "classify_log":
            inference.classify(log.classify_log.request)
        elif kind == "regress_log":
            inference.regress(log.regress_log.request)
        elif kind == "multi_inference_log":
            inference.multi_inference(log.multi_inference_log.request)
        else:
            raise ServingError(f"unsupported kind of request: {kind}")
    except Exception as error:
        raise ServingError(
            f"expected warm-up requests that the model can answer. Received: {path}, number {index} ({reason(error)})"
        ) from error
