"""The embedded server, with TensorFlow Serving's gRPC and REST APIs. The clients are in `keras_tagger.client`.

server.py        Server and serve; addresses.py and tls.py are where and how it listens
flags.py         flags; config_files.py reads the files that they name
grpc_services.py gRPC; health.py has health checks and reflection
http_server.py   HTTP; rest.py and rest_json.py have the REST API
dispatch.py      what both do with a request; scheduler.py queues, batches and refuses; limits.py is what one may cost
inference.py     the four methods on one version; tensors.py converts their tensors
manager.py       models and versions; servable.py, versions.py and warmup.py load them
"""

import warnings
from typing import Any

__all__ = ["Flags", "Server", "serve"]
_MODULES = {"Flags": "flags", "Server": "server", "serve": "server"}
_MOVED = ("AsyncClient", "Client", "Tls")


def __getattr__(name: str) -> Any:
    # Importing the server imports TensorFlow, so both wait until they are used.
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(f"keras_tagger.serving.{_MODULES[name]}"), name)
    if name in _MOVED:
        from keras_tagger import client

        warnings.warn(
            f"keras_tagger.serving.{name} is deprecated; use keras_tagger.client.{name}.",
            DeprecationWarning,
            stacklevel=2,
        )
        return getattr(client, name)
    raise AttributeError(f"module 'keras_tagger.serving' has no attribute {name!r}")
