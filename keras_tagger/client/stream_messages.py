"""The messages of `keras_tagger.AudioTagging`, the streaming method of the server; examples/audio_tagging.proto.

The server and the client share this module, which does not import TensorFlow.
"""

from __future__ import annotations

from keras_tagger.client.proto_messages import Protocol

STREAM = Protocol(
    "keras_tagger",
    {
        "StreamConfig": {
            "model_name": (1, "string"),
            "version": (2, "int64"),
            "version_label": (3, "string"),
            "encoding": (4, "string"),
            "sample_rate": (5, "int32"),
            "channels": (6, "int32"),
            "contributions": (7, "bool"),
        },
        "StreamRequest": {"config": (1, "StreamConfig"), "audio": (2, "bytes")},
        "StreamResponse": {
            "start_seconds": (1, "double"),
            "end_seconds": (2, "double"),
            "scores": (3, "repeated float"),
            "times": (4, "repeated double"),
            "contributions": (5, "repeated float"),
            "whole": (6, "bool"),
            "tags": (7, "repeated string"),
            "version": (8, "int64"),
            "warnings": (9, "repeated StreamWarning"),
        },
        "StreamWarning": {"kind": (1, "string"), "text": (2, "string")},
    },
    "AudioTagging",
    {"Stream": ("stream StreamRequest", "stream StreamResponse")},
)
