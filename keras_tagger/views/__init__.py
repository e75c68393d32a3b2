"""Pictures and pages: clip previews, TensorBoard summaries, explanations as files, the results page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_tagger.views.board.log import log_explanation as log_explanation

__all__ = ["log_explanation"]


def __getattr__(name: str) -> Any:
    # Writing needs TensorFlow, which the other modules here do not import.
    if name == "log_explanation":
        from keras_tagger.views.board.log import log_explanation

        return log_explanation
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
