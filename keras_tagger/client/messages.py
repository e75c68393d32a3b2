"""A client's messages: requests from arrays, arrays from replies, by the stubs of `tensorflow-serving-api`.

The stubs, and with them TensorFlow, are imported when a function is called, not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from keras_tagger.client.probe import Question
from keras_tagger.errors import ServingError

Signature = dict[str, dict[str, tuple[str, "list[int | None] | None"]]]


def prediction_stub(channel: Any) -> Any:
    """The stub of PredictionService on a channel of `grpc` or `grpc.aio`."""
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def model_spec(name: str, signature: str, version: int | None, label: str | None) -> Any:
    """A `ModelSpec`."""
    from tensorflow_serving.apis import model_pb2

    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    return spec


def predict_request(spec: Any, question: Question) -> Any:
    """A `PredictRequest`; ServingError for inputs that are no tensors."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest(model_spec=spec, output_filter=question.outputs)
    for name, array in question.inputs.items():
        try:
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ServingError(
                f"input {name}: expected an array of numbers, booleans or bytes, below 2 GB. "
                f"Received: {type(array).__name__} ({reason})."
            ) from None
    return request


def predict_reply(response: Any) -> dict[str, npt.NDArray[Any]]:
    """The outputs of a `PredictResponse`."""
    import tensorflow as tf

    return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}


def metadata_request(spec: Any) -> Any:
    """A `GetModelMetadataRequest` for the signatures."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    return get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])


def metadata_reply(response: Any) -> dict[str, Signature]:
    """The signatures of a `GetModelMetadataResponse`."""
    import tensorflow as tf
    from tensorflow_serving.apis import get_model_metadata_pb2

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


def unsendable(error: ValueError) -> ServingError:
    """A request that gRPC would not send: its channel is closed, or the message is beyond protobuf's 2 GB."""
    return ServingError(f"expected an open client and a request below 2 GB. Received: {' '.join(str(error).split())}.")
