"""The embedded server: gRPC and REST as TensorFlow Serving has them. The clients are in `keras_tagger.client`."""

import warnings
from typing import Any

_MOVED = ("AsyncClient", "Client", "Tls")


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        from keras_tagger import client

        warnings.warn(
            f"keras_tagger.serving.{name} is deprecated; use keras_tagger.client.{name}.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(client, name)
    raise AttributeError(f"module 'keras_tagger.serving' has no attribute {name!r}")
