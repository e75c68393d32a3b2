"""The player: a clip with its maps on one time axis, for pages, notebooks and TensorBoard."""

from keras_tagger.views.player.document import (
    attention_map,
    audio_uri,
    clip_document,
    encode_audio,
    encode_values,
    image_map,
    query_map,
    regular_columns,
    rows_map,
)
from keras_tagger.views.player.pages import bundle, element, fragment, index_page, page, policy, scripts

__all__ = [
    "attention_map",
    "audio_uri",
    "bundle",
    "clip_document",
    "element",
    "encode_audio",
    "encode_values",
    "fragment",
    "image_map",
    "index_page",
    "page",
    "policy",
    "query_map",
    "regular_columns",
    "rows_map",
    "scripts",
]
