"""A client of any TensorFlow Serving server: arrays, tags and maps over gRPC.

gRPC, TensorFlow and the stubs of `tensorflow-serving-api` are imported when a `Client` is made, not before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np

from keras_tagger import audio as audio_files
from keras_tagger.errors import ServingError

SAMPLE_RATE = 16_000
MAP_SECONDS = 30.0

Signature = dict[str, dict[str, tuple[str, "list[int | None] | None"]]]


class Client:
    """A connection to a served model; also a context manager.

    Args:
        address: HOST:PORT of the server's gRPC.
        model_name: The name the server serves the model under.
        timeout_seconds: How long one request may take.
        window_seconds: Longest piece of audio in one request, in seconds.

    Every method raises `ServingError`, with the server's status in its text, when the server refuses the
    request or cannot be reached; those that take audio raise what `keras_tagger.audio.load` raises.
    """

    def __init__(
        self,
        address: str = "localhost:8500",
        model_name: str = "keras_tagger",
        timeout_seconds: float = 30.0,
        window_seconds: float = 300.0,
    ) -> None:
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        if not window_seconds * SAMPLE_RATE >= 1:
            raise ServingError(f"expected a window_seconds above 0. Received: {window_seconds}")
        self.address = address
        self.model_name = model_name
        self.timeout_seconds = timeout_seconds
        self.window_seconds = window_seconds
        # gRPC takes 4 MiB by default; one attention map is larger.
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options=unlimited)
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def predict(
        self,
        inputs: Mapping[str, np.ndarray],
        signature: str = "serving_default",
        outputs: Sequence[str] | None = None,
    ) -> dict[str, np.ndarray]:
        """Runs one signature on arrays; `outputs` names those wanted (default: all)."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest(output_filter=outputs)
        request.model_spec.name = self.model_name
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        response = self._ask(self._stub.Predict, request)
        return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}

    def metadata(self) -> dict[str, Signature]:
        """The served signatures: name -> {"inputs" and "outputs": {name: (dtype, shape)}}.

        A size that may vary is None in the shape; a shape of unknown rank is None.
        """
        import tensorflow as tf
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = self.model_name
        response = self._ask(self._stub.GetModelMetadata, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)

        def described(infos: Mapping[str, Any]) -> dict[str, tuple[str, list[int | None] | None]]:
            return {
                name: (
                    tf.as_dtype(info.dtype).name,
                    None
                    if info.tensor_shape.unknown_rank
                    else [None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim],
                )
                for name, info in sorted(infos.items())
            }

        return {
            name: {"inputs": described(signature.inputs), "outputs": described(signature.outputs)}
            for name, signature in sorted(signatures.signature_def.items())
            # TensorFlow keeps the initializer of a SavedModel among its signatures; nobody can ask for it.
            if not name.startswith("__saved_model")
        }

    def tag(self, audio: Any, top: int = 10, tags: Sequence[str] | None = None) -> dict[str, float]:
        """The `top` highest scores of a clip by tag, highest first.

        Audio longer than `window_seconds` is sent in windows of that length, one a request, in constant
        memory; the scores are their mean, weighted by the samples that are new in each. The names come from
        the model's signature `classify`; for a model without it give `tags`, the names in the order of the
        output `tags` of `serving_default`.
        """
        totals: dict[str, float] = {}
        n_samples = 0
        for window in audio_files.windows(audio, SAMPLE_RATE, round(self.window_seconds * SAMPLE_RATE)):
            names, scores = self._named_scores(window.waveform, tags)
            for name, score in zip(names, scores, strict=True):
                totals[name] = totals.get(name, 0.0) + float(score) * window.new_samples
            n_samples += window.new_samples
        order = sorted(totals, key=lambda name: -totals[name])[:top]
        return {name: totals[name] / n_samples for name in order}

    def _named_scores(self, waveform: np.ndarray, tags: Sequence[str] | None) -> tuple[Sequence[str], np.ndarray]:
        import tensorflow as tf

        if tags is not None:
            scores = self.predict({"waveform": waveform[np.newaxis]}, outputs=["tags"])["tags"][0]
            if len(tags) != len(scores):
                raise ServingError(f"expected {len(scores)} names, one for each tag served. Received: {len(tags)}")
            return tags, scores
        values = tf.train.Feature(float_list=tf.train.FloatList(value=waveform))
        example = tf.train.Example(features=tf.train.Features(feature={"waveform": values}))
        inputs = {"inputs": np.array([example.SerializeToString()], object)}
        try:
            reply = self.predict(inputs, "classify", outputs=["classes", "scores"])
        except ServingError as error:
            if 'signature key "classify" not found' not in str(error):
                raise
            raise ServingError(
                f"expected a model with the signature classify, or the names of its tags as `tags`. Received: {error}"
            ) from None
        return [name.decode() for name in reply["classes"][0]], reply["scores"][0]

    def attention(self, audio: Any, start_seconds: float = 0.0, seconds: float = MAP_SECONDS) -> dict[str, np.ndarray]:
        """The outputs of the signature `attention` for `seconds` of a clip from `start_seconds`.

        The reply grows with the square of `seconds`. In it, `times` (seconds) count from the start of the clip.
        """
        return self._map("attention", audio, start_seconds, seconds)

    def contributions(
        self, audio: Any, start_seconds: float = 0.0, seconds: float = MAP_SECONDS
    ) -> dict[str, np.ndarray]:
        """The outputs of the signature `contributions` for a stretch of a clip, as in `attention`."""
        return self._map("contributions", audio, start_seconds, seconds)

    def _map(self, signature: str, audio: Any, start_seconds: float, seconds: float) -> dict[str, np.ndarray]:
        waveform = audio_files.load(audio, SAMPLE_RATE, start_seconds, start_seconds + seconds)
        reply = self.predict({"waveform": waveform[np.newaxis]}, signature)
        if "times" in reply:
            reply["times"] = reply["times"] + np.asarray(start_seconds, reply["times"].dtype)
        return reply

    def _ask(self, method: Callable[..., Any], request: Any) -> Any:
        import grpc

        try:
            return method(request, timeout=self.timeout_seconds)
        except grpc.RpcError as error:
            code, details = error.code(), " ".join((error.details() or "").split())
            if code == grpc.StatusCode.UNAVAILABLE:
                raise ServingError(f"expected a server at {self.address}. Received: UNAVAILABLE ({details})") from None
            raise ServingError(f"server at {self.address} answered {code.name}: {details}") from None
