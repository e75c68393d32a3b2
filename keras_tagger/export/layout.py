"""Names of the files in an exported version, for what writes it, checks it and serves it."""

from __future__ import annotations

SAVED_MODEL = "saved_model.pb"
TAGS_TEXT = "assets/tags.txt"
TAGS_JSON = "assets/tags.json"
CONFIG = "assets/config.yaml"
WARMUP_REQUESTS = "assets.extra/tf_serving_warmup_requests"
