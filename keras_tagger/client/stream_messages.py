"""The messages of `keras_tagger.AudioTagging`, the streaming method of the server; examples/audio_tagging.proto.

The server and the client share this module, which does not import TensorFlow.
"""

from __future__ import annotations

from keras_tagger.client.proto_messages import Protocol

STREAM = Protocol(
    "keras_tagger",
    {
        "StreamConfig": """
            string model_name = 1; int64 version = 2; string version_label = 3; string encoding = 4;
            int32 sample_rate = 5; int32 channels = 6; bool contributions = 7;
        """,
        "StreamRequest": "StreamConfig config = 1; bytes audio = 2;",
        "StreamResponse": """
            double start_seconds = 1; double end_seconds = 2; repeated float scores = 3; repeated double times = 4;
            repeated float contributions = 5; bool whole = 6; repeated string tags = 7; int64 version = 8;
            repeated StreamWarning warnings = 9;
        """,
        "StreamWarning": "string kind = 1; string text = 2;",
    },
    "AudioTagging",
    {"Stream": ("stream StreamRequest", "stream StreamResponse")},
)
