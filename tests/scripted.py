"""A gRPC server whose answers a test writes, for rare behaviour of real servers: refusals, new versions, delays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

Answer = Callable[[int, predict_pb2.PredictRequest, grpc.ServicerContext], Any]


class Scripted(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Calls `answer(number of the request, from 0; request; context)`, which returns outputs and a version."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.count = 0

    def Predict(self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext) -> Any:  # noqa: N802
        number, self.count = self.count, self.count + 1
        outputs, version = self.answer(number, request, context)
        response = predict_pb2.PredictResponse()
        response.model_spec.version.value = version
        for name, value in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


@contextlib.contextmanager
def scripted_server(answer: Answer, port: int = 0, credentials: Any = None) -> Iterator[tuple[str, Scripted]]:
    """The server's address and the servicer, which counts requests."""
    server = grpc.server(
        futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)]
    )
    servicer = Scripted(answer)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(servicer, server)
    # Not "localhost", which has two addresses: a port that is free on one may be taken on the other.
    address = f"127.0.0.1:{port}"
    bound = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    try:
        # A secure channel checks the name in the address, so this is a name.
        yield f"{'localhost' if credentials else '127.0.0.1'}:{bound}", servicer
    finally:
        server.stop(0).wait()


def waveforms(request: predict_pb2.PredictRequest) -> np.ndarray:
    """The clips of a request, float32 [B, samples]."""
    return tf.make_ndarray(request.inputs["waveform"])
