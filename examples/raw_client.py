"""Ask a served tagger for tags and attention with only the stubs of tensorflow-serving-api.

    python examples/raw_client.py song.wav localhost:8500

The file must be 16-bit WAV at 16 kHz. keras_tagger is not needed.
"""

from __future__ import annotations

import sys
import wave

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


def main(path: str, address: str) -> None:
    """Print the best scores, and where in the clip the model attends most."""
    with wave.open(path) as file:
        if (file.getframerate(), file.getsampwidth()) != (16000, 2):
            sys.exit(f"expected 16-bit WAV at 16000 Hz. Received: {path}.")
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
    waveform = (pcm.mean(axis=1) / 32768).astype(np.float32)[np.newaxis]

    # gRPC's default limit of 4 MiB is less than the attention weights of half a minute.
    channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
    stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)

    request = predict_pb2.PredictRequest()
    request.model_spec.name = "keras_tagger"
    request.model_spec.signature_name = "attention"
    request.inputs["waveform"].CopyFrom(tf.make_tensor_proto(waveform))
    reply = {name: tf.make_ndarray(value) for name, value in stub.Predict(request, timeout=30).outputs.items()}

    print("tags:", np.sort(reply["tags"][0])[::-1][:5].round(3))
    print("attention:", reply["attention"].shape)
    print(f"the model attends most at {reply['times'][0][reply['heatmap'][0].argmax()]:.2f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
