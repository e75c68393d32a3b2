"""Clients of any TensorFlow Serving server. gRPC and TensorFlow are imported when a client is made."""

from keras_tagger.client.channel import ClientTls, Tls
from keras_tagger.client.client import AsyncClient, Client
from keras_tagger.client.streaming import AsyncTagStream, StreamedWindow, TagStream

__all__ = ["AsyncClient", "AsyncTagStream", "Client", "ClientTls", "StreamedWindow", "TagStream", "Tls"]
