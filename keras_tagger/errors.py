"""The errors a user can meet.

Each is a `ValueError` or `FileNotFoundError` whose text is one sentence: what was expected and what was received.
`KerasTaggerError` marks them, so that the command line prints the sentence and nothing else.
"""

from __future__ import annotations


class KerasTaggerError(Exception):
    """Base of all errors raised on purpose by keras_tagger."""


class AudioError(KerasTaggerError, ValueError):
    """Audio that cannot be used: not audio, empty, truncated, not finite, or of an impossible rate."""


class AudioNotFoundError(KerasTaggerError, FileNotFoundError):
    """A path to audio where there is nothing."""


class ConfigError(KerasTaggerError, ValueError):
    """A configuration key that is unknown, of the wrong type, or impossible."""


class ManifestError(KerasTaggerError, ValueError):
    """A manifest, folder or prepared data set that cannot be used."""


class ManifestNotFoundError(KerasTaggerError, FileNotFoundError):
    """A path to a manifest, folder or prepared data set where there is nothing."""


class ModelError(KerasTaggerError, ValueError):
    """A model, run directory or SavedModel that cannot be used, or an input that it cannot take."""


class ModelNotFoundError(KerasTaggerError, FileNotFoundError):
    """A name or path of a model where there is none."""


class ServingError(KerasTaggerError, ValueError):
    """A server that cannot be started, or that refused a request.

    Attributes:
        code: the name of the gRPC status that a request ended with ("NOT_FOUND"); None where there was no request.
    """

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        self.code = code
