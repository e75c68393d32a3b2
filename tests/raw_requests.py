"""Requests made with nothing but the official stubs, as any TensorFlow Serving client would make them."""

from __future__ import annotations

import time
from collections.abc import Callable

import grpc
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc


class Raw:
    """The official stubs on one server, with requests built by hand."""

    def __init__(self, port: int) -> None:
        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self.address = f"127.0.0.1:{port}"
        channel = grpc.insecure_channel(self.address, options=options)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        self.model = model_service_pb2_grpc.ModelServiceStub(channel)

    def predict(self, inputs, signature="", name="m", version=None, label="", outputs=(), timeout=60):
        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name = name
        request.model_spec.signature_name = signature
        if version is not None:
            request.model_spec.version.value = version
        if label:
            request.model_spec.version_label = label
        for alias, value in inputs.items():
            proto = value if isinstance(value, tensor_pb2.TensorProto) else tf.make_tensor_proto(value)
            request.inputs[alias].CopyFrom(proto)
        return self.prediction.Predict(request, timeout=timeout)


def refusal(call, *args, **kwargs):
    """The status code name and text that a call ends with; never a stack of Python."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*args, **kwargs)
    details = caught.value.details()
    assert "Traceback" not in details
    assert 'File "' not in details
    return caught.value.code().name, details


def as_numpy(response):
    return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}


def wait_until(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until a condition holds, and fail the test if it does not within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return
        time.sleep(0.02)
    pytest.fail(f"expected the condition to hold within {seconds:g} s")
