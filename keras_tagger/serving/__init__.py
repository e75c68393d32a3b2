"""Serving over gRPC: an embedded server that answers as TensorFlow Serving does, and a client of either.

Nothing is imported here: `server` and `servable` import TensorFlow.
"""
