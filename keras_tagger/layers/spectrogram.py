"""The mel spectrogram, computed in the graph by kapre's layers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import kapre
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.audio.fourier import fourier_filters, hann
from keras_tagger.config import AudioConfig, SpectrogramConfig
from keras_tagger.layers.base import ConfiguredLayer
from keras_tagger.layers.mel import mel_edges, mel_filterbank

DECIBEL_FLOOR, AMPLITUDE_FLOOR = 1e-10, 1e-5
_DEFAULTS = SpectrogramConfig()


@keras.saving.register_keras_serializable(package="keras_tagger")
class Spectrogram(ConfiguredLayer):
    """Compressed mel spectrogram of a waveform.

    Frame i owns the samples `[i * hop_length, (i + 1) * hop_length)`. It is centred on them, with zeros around the
    clip; with framing "centered" it is centred on the first of them, and the clip is reflected at its ends (as in
    librosa and torchaudio). A frame depends only on its own n_fft samples, never on the rest of the clip,
    unless top_db is set.

    The output is float32 under every dtype policy, because the power of quiet audio underflows half precision. Decibels
    are computed in float64: in bands far below a frame's loudest, float32 rounding alone can change them by more
    than 1. The defaults are those of `keras_tagger.config.SpectrogramConfig`.

    Args:
        sample_rate: Sample rate of the waveform, Hz.
        n_fft: Length of the Hann window and FFT, samples; even.
        hop_length: Samples between frames; even.
        n_mels: Number of mel bands.
        f_min: Lower edge of the filterbank, Hz.
        f_max: Upper edge of the filterbank, Hz.
        power: 1 for magnitude, 2 for power.
        compression: "log1p": log(1 + gain * mel); "decibel": 10 log10(max(mel, 1e-10)), torchaudio's for power;
            "amplitude_decibel": 20 log10(max(mel, 1e-5)), librosa's amplitude_to_db.
        gain: Gain of "log1p".
        mel_scale: "slaney" or "htk".
        mel_norm: "slaney" (area normalisation) or "none".
        top_db: Values more than this many decibels below the clip's maximum are raised to there; 0 is off. This is the
            only setting that makes a frame depend on the rest of the clip (Won et al. 2019 used it).
        framing: "owned" or "centered".
        stored: Whether window and filterbank are weights that a file provides.

    Input shape:
        Waveform, float `[batch, samples]`, roughly in -1..1. "centered" needs more than n_fft / 2 samples.

    Output shape:
        float32 `[batch, frames, n_mels]`, with ceil(samples / hop_length) frames; "centered":
        1 + floor(samples / hop_length) frames.

    Example:
        >>> Spectrogram()(np.zeros((2, 16000))).shape
        TensorShape([2, 63, 96])
    """

    float32_output = True

    def __init__(
        self,
        sample_rate: int = AudioConfig().sample_rate,
        n_fft: int = _DEFAULTS.n_fft,
        hop_length: int = _DEFAULTS.hop_length,
        n_mels: int = _DEFAULTS.n_mels,
        f_min: float = _DEFAULTS.f_min,
        f_max: float = _DEFAULTS.f_max,
        power: int = _DEFAULTS.power,
        compression: str = _DEFAULTS.compression,
        gain: float = _DEFAULTS.gain,
        mel_scale: str = _DEFAULTS.mel_scale,
        mel_norm: str = _DEFAULTS.mel_norm,
        top_db: float = _DEFAULTS.top_db,
        framing: str = _DEFAULTS.framing,
        stored: bool = _DEFAULTS.stored,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.remember(locals())
        self.supports_masking = False
        layout = {"input_data_format": "channels_last", "output_data_format": "channels_last"}
        self.precision = "float32" if compression == "log1p" else "float64"
        self.stft = kapre.STFT(n_fft=n_fft, hop_length=hop_length, dtype=self.precision, **layout)
        self.magnitude = kapre.Magnitude(dtype=self.precision)
        # Any type but kapre's own leaves the matrix to us; for its own, kapre imports librosa.
        self.filterbank = kapre.ApplyFilterbank(
            type="given", filterbank_kwargs={}, data_format="channels_last", dtype=self.precision
        )
        self.filterbank.filterbank = tf.constant(self._bands(), self.precision)
        self._filters: Any = None

    @contextlib.contextmanager
    def as_convolution(self, filters: Any = None) -> Iterator[None]:
        """Compute the Fourier transform as a strided convolution of real numbers, in float32, in this context.

        Other runtimes know convolutions, but neither complex numbers nor float64. The differences are those of
        rounding, which in decibels are large where a band is nearly empty.

        Args:
            filters: `keras_tagger.audio.fourier.fourier_filters` as a tensor; computed if None.

        Example:
            >>> with layer.as_convolution():
            ...     layer(waveform)
        """
        if filters is None:
            filters = fourier_filters(self.n_fft, np.asarray(self.window) if self.stored else None)
        self._filters = tf.convert_to_tensor(filters)
        try:
            yield
        finally:
            self._filters = None

    def _bands(self) -> npt.NDArray[Any]:
        return mel_filterbank(
            self.sample_rate, self.n_fft, self.n_mels, self.f_min, self.f_max, self.mel_scale, self.mel_norm
        )

    def build(self, input_shape: Any) -> None:
        """Create the stored window and filterbank; without them there are no weights."""
        if self.stored:
            self.window, self.bands = (
                self.add_weight(
                    name=name, shape=value.shape, initializer="zeros", trainable=False, dtype="float32", autocast=False
                )
                for name, value in (("window", hann(self.n_fft)), ("bands", self._bands()))
            )
            self.window.assign(hann(self.n_fft))
            self.bands.assign(self._bands())
            self.stft.window_fn = lambda frame_length, dtype: tf.cast(self.window, dtype)
        for layer in (self.stft, self.magnitude, self.filterbank):
            layer.built = True

    def call(self, waveform: tf.Tensor) -> tf.Tensor:
        """Compute the spectrogram of a batch."""
        precision = self.precision if self._filters is None else "float32"
        waveform = tf.cast(waveform, precision)
        if self.framing == "centered":
            half = self.n_fft // 2
            padded = tf.pad(waveform, [[0, 0], [half, half]], "REFLECT")
        else:
            n_samples = tf.shape(waveform)[1]
            edge = (self.n_fft - self.hop_length) // 2
            end = edge + self.n_frames(n_samples) * self.hop_length - n_samples
            padded = tf.pad(waveform, [[0, 0], [edge, end]])
        mel = self._kapre_mel(padded) if self._filters is None else self._convolved_mel(padded)
        if self.compression == "log1p":
            # Converters do not know log1p.
            return tf.math.log1p(self.gain * mel) if self._filters is None else tf.math.log(1.0 + self.gain * mel)
        factor, floor = (10.0, DECIBEL_FLOOR) if self.compression == "decibel" else (20.0, AMPLITUDE_FLOOR)
        decibels = (factor / np.log(10.0)) * tf.math.log(tf.maximum(mel, floor))
        if self.top_db:
            decibels = tf.maximum(decibels, tf.reduce_max(decibels, axis=[1, 2], keepdims=True) - self.top_db)
        return tf.cast(decibels, tf.float32)

    def _kapre_mel(self, padded: tf.Tensor) -> tf.Tensor:
        # kapre works on [B, samples, channels] and [B, frames, bins, channels].
        magnitude = self.magnitude(self.stft(padded[:, :, tf.newaxis]))
        if self.power == 2:
            magnitude = tf.square(magnitude)
        if self.stored:
            return tf.matmul(tf.squeeze(magnitude, axis=-1), tf.cast(self.bands, self.precision))
        return tf.squeeze(self.filterbank(magnitude), axis=-1)

    def _convolved_mel(self, padded: tf.Tensor) -> tf.Tensor:
        # Not tf.newaxis, which LiteRT does not know where sizes are open.
        samples, filters = tf.expand_dims(padded, -1), tf.expand_dims(self._filters, 1)
        found = tf.nn.conv1d(samples, filters, self.hop_length, "VALID")
        real, imaginary = tf.split(tf.square(found), 2, axis=-1)
        magnitude = real + imaginary if self.power == 2 else tf.sqrt(real + imaginary)
        bands = self.bands if self.stored else self._bands()
        return tf.matmul(magnitude, tf.cast(bands, tf.float32))

    def n_frames(self, n_samples: Any) -> Any:
        """Return the number of frames for a number of samples, an int or an integer tensor."""
        if self.framing == "centered":
            return 1 + n_samples // self.hop_length
        # Not -(-n // k), as ONNX rounds the quotients of integers towards zero.
        return (n_samples + self.hop_length - 1) // self.hop_length

    def frame_times(self, n_frames: int) -> npt.NDArray[Any]:
        """Return the centres of the frames in seconds, float64 `[n_frames]`."""
        offset = 0.0 if self.framing == "centered" else 0.5
        return (np.arange(n_frames) + offset) * self.hop_length / self.sample_rate

    def mel_frequencies(self) -> npt.NDArray[Any]:
        """Return the centres of the mel bands in Hz, float64 `[n_mels]`."""
        return mel_edges(self.n_mels, self.f_min, self.f_max, self.mel_scale)[1:-1]

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return `[batch, frames, n_mels]`."""
        n_samples = input_shape[1]
        return input_shape[0], None if n_samples is None else self.n_frames(n_samples), self.n_mels
