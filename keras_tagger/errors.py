"""The errors that keras_tagger raises on purpose.

Each is also a `ValueError` or `FileNotFoundError`. Its message says what was expected and what was received, and the
command line prints only the message.

Example:
    >>> from keras_tagger import audio
    >>> try:
    ...     audio.load("song.mp3")
    ... except keras_tagger.KerasTaggerError as error:
    ...     print(error)
    Expected an audio file. Received: 'song.mp3', which does not exist.
"""

from __future__ import annotations


class KerasTaggerError(Exception):
    """Base class of all errors that keras_tagger raises on purpose.

    Example:
        >>> try:
        ...     keras_tagger.load("runs/demo")
        ... except keras_tagger.KerasTaggerError as error:
        ...     print(error)
    """


class AudioError(KerasTaggerError, ValueError):
    """Audio that cannot be used: not audio, empty, truncated, not finite, or with an invalid sample rate."""


class AudioNotFoundError(KerasTaggerError, FileNotFoundError):
    """An audio file that does not exist."""


class AudioWarning(UserWarning):
    """What a listener must know about audio that was read: damage that was skipped, silence, or an unusual level.

    Functions that read audio add these to the list `warnings` if they get one, and otherwise issue them with
    `warnings.warn`. `str(warning)` is the message, one sentence.

    Attributes:
        kind: "damaged" (some of the sound could not be read), "silent" (there is nothing to hear), "cancelled" (the
            channels cancel each other, so the louder one was used) or "level" (samples far outside
            -1..1, or so low that a model hears silence).
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class CatalogError(KerasTaggerError, ValueError):
    """A catalogue of music that cannot be made, read or searched."""


class ConfigError(KerasTaggerError, ValueError):
    """A configuration key that is unknown, or a value that has the wrong type or is not allowed."""


class LibraryError(KerasTaggerError, ValueError):
    """A music file whose tags cannot be read, written or restored, or a query for music that cannot be understood."""


class ManifestError(KerasTaggerError, ValueError):
    """A manifest, folder or prepared data set that cannot be used."""


class ManifestNotFoundError(KerasTaggerError, FileNotFoundError):
    """A manifest, folder or prepared data set that does not exist."""


class ModelError(KerasTaggerError, ValueError):
    """A model, run directory or SavedModel that cannot be used, or an input that a model cannot take."""


class ModelNotFoundError(KerasTaggerError, FileNotFoundError):
    """A model that does not exist."""


class WorkerError(KerasTaggerError, RuntimeError):
    """A worker that stopped while others trained with it (`training.strategy`), or that cannot be reached."""


class ServingError(KerasTaggerError, ValueError):
    """A server that cannot be started, or that refused a request.

    Attributes:
        code: The name of the gRPC status of a failed request, such as "NOT_FOUND", or None if there was no request.
    """

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        self.code = code
