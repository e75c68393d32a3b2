"""Serving over gRPC and REST: an embedded server that answers as TensorFlow Serving does, and clients of either.

Only the clients are imported here; they import gRPC and TensorFlow when one is made. What serves imports TensorFlow.
"""

from keras_tagger.serving.channel import Tls
from keras_tagger.serving.client import AsyncClient, Client

__all__ = ["AsyncClient", "Client", "Tls"]
