"""`PortableModel`: an exported model in the place of a `MusicTagger`. TensorFlow is not imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.audio.windows import Windowing
from keras_tagger.errors import ModelError
from keras_tagger.runtimes.description import OUTPUTS, Description

# Runs a model on waveforms float32 [B, samples] and returns the outputs that are named.
Run = Callable[[npt.NDArray[Any], Sequence[str]], Mapping[str, npt.NDArray[Any]]]


class PortableModel:
    """A model that another runtime runs, with what `Tagger` uses of `MusicTagger`.

    It cannot be trained, and has no gradients: explanations are those that need none.

    Args:
        description: What is known about the model.
        run: Runs it.
        runtime: The name of the runtime, "onnx" or "litert".

    Example:
        >>> model = PortableModel(description, run, "onnx")
        >>> model.analyze(waveforms, ("tags",))["tags"].shape
        (2, 50)
    """

    def __init__(self, description: Description, run: Run, runtime: str) -> None:
        self.tags = list(description.tags)
        self.audio_config, self.model_config = description.audio, description.model
        self.window_samples, self.token_samples = description.window_samples, description.token_samples
        self.precision, self.runtime = description.precision, runtime
        self._rounds_up, self._run = description.rounds_up, run

    @property
    def hop_seconds(self) -> float:
        """Seconds from one token to the next."""
        return self.token_samples / self.audio_config.sample_rate

    def n_tokens(self, n_samples: int) -> int:
        """Return the number of tokens, without [CLS], for a number of samples.

        Raises:
            ModelError: If the model leaves out incomplete tokens, as that of won2021 does: only Keras knows then.
        """
        if not self._rounds_up:
            raise ModelError(
                "expected a model whose incomplete tokens count, or one of Keras, loaded without runtime=. "
                f"Received: one with the front-end {self.model_config.front_end.kind}."
            )
        return max(-(-n_samples // self.token_samples), 1)

    @property
    def windowing(self) -> Windowing:
        """The way audio is cut into windows for inference."""
        return Windowing(self.audio_config.sample_rate, self.window_samples, self.token_samples)

    def analyze(self, waveform: npt.NDArray[Any], outputs: Sequence[str] = OUTPUTS) -> dict[str, npt.NDArray[Any]]:
        """Return any of the model's outputs; see `MusicTagger.analyze`.

        Args:
            waveform: float32 `[B, samples]`, of up to `window_samples`.
            outputs: Any of "tags", "attention", "contributions", "embedding" and "spectrogram".

        Raises:
            ModelError: If an output does not exist.
        """
        unknown = [name for name in outputs if name not in OUTPUTS]
        if unknown or not outputs:
            raise ModelError(f"outputs: expected some of {', '.join(OUTPUTS)}. Received: {tuple(outputs)!r}.")
        found = self._run(np.ascontiguousarray(waveform, np.float32), outputs)
        return {name: found[name] for name in outputs}
