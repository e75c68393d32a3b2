"""Messages of a client: arrays to requests and replies to arrays, by the stubs of `tensorflow-serving-api`.

The stubs, and with them TensorFlow, are imported when a function is called, not before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt

from keras_tagger.client.probe import Request
from keras_tagger.errors import ServingError

Signature = dict[str, dict[str, tuple[str, "list[int | None] | None"]]]


def prediction_stub(channel: Any) -> Any:
    """Return the stub of PredictionService on a channel of `grpc` or `grpc.aio`."""
    from tensorflow_serving.apis import prediction_service_pb2_grpc

    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def model_spec(name: str, signature: str, version: int | None, label: str | None) -> Any:
    """Return a `ModelSpec`."""
    from tensorflow_serving.apis import model_pb2

    spec = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    return spec


def predict_request(spec: Any, request: Request) -> Any:
    """Return a `PredictRequest`.

    Raises:
        ServingError: If an input cannot be a tensor.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    message = predict_pb2.PredictRequest(model_spec=spec, output_filter=request.outputs)
    for name, array in request.inputs.items():
        try:
            message.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        except (TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ServingError(
                f"input {name}: expected an array of numbers, booleans or bytes, below 2 GB. "
                f"Received: {type(array).__name__} ({reason})."
            ) from None
    return message


def predict_reply(response: Any) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs of a `PredictResponse`."""
    import tensorflow as tf

    return {name: tf.make_ndarray(tensor) for name, tensor in response.outputs.items()}


def versioned_reply(response: Any) -> tuple[dict[str, npt.NDArray[Any]], int]:
    """Return the outputs of a `PredictResponse`, and the version of the model that gave them."""
    return predict_reply(response), response.model_spec.version.value


def metadata_request(spec: Any) -> Any:
    """Return a `GetModelMetadataRequest` for the signatures."""
    from tensorflow_serving.apis import get_model_metadata_pb2

    return get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=["signature_def"])


def metadata_reply(response: Any) -> dict[str, Signature]:
    """Return the signatures of a `GetModelMetadataResponse`."""
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
        # TensorFlow lists the initializer of a SavedModel among its signatures, but it cannot be called.
        if not name.startswith("__saved_model")
    }


def unsendable(error: Exception) -> ServingError:
    """Return the error for a request that gRPC does not send: a closed channel, or more than protobuf's 2 GB."""
    return ServingError(f"expected an open client and a request below 2 GB. Received: {' '.join(str(error).split())}.")
