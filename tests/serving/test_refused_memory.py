"""A refused request is let go of at once, not when the garbage collector comes by."""

from __future__ import annotations

import gc
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from keras_tagger.serving.server import Server

REQUESTS, MEBIBYTES = 24, 16
PREDICT = "/tensorflow.serving.PredictionService/Predict"


class Half(tf.Module):
    """y = x / 2."""

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
    def half(self, x):
        return {"y": x / 2}


def resident_mebibytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="expected Linux")
def test_refused_requests_leave_no_memory(tmp_path):
    module = Half()
    tf.saved_model.save(module, str(tmp_path / "1"), signatures=module.half)
    content = bytes(MEBIBYTES * 2**20)
    with Server(tmp_path, "m", port=0) as server:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "m"
        request.inputs["x"].dtype = 1
        # Two values too few.
        request.inputs["x"].tensor_shape.dim.add(size=len(content) // 4 + 2)
        request.inputs["x"].tensor_content = content
        # The client is in this process too, so it sends the same bytes every time and keeps no error.
        body = request.SerializeToString()
        options = [("grpc.max_send_message_length", -1)]
        call = grpc.insecure_channel(f"127.0.0.1:{server.port}", options=options).unary_unary(PREDICT)

        def refuse() -> str:
            try:
                call(body, timeout=60)
            except grpc.RpcError as error:
                return error.code().name
            return "OK"

        assert refuse() == "INVALID_ARGUMENT"
        gc.collect()
        gc.disable()
        try:
            before = resident_mebibytes()
            assert {refuse() for _ in range(REQUESTS)} == {"INVALID_ARGUMENT"}
            grown = resident_mebibytes() - before
        finally:
            gc.enable()
    # Held back, they would be twice that: message and parsed request each.
    assert grown < REQUESTS * MEBIBYTES, grown
