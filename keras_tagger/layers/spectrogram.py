"""The mel spectrogram, computed in the graph by kapre's layers."""

from __future__ import annotations

from typing import Any

import kapre
import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from keras_tagger.layers.mel import mel_edges, mel_filterbank

DECIBEL_FLOOR, AMPLITUDE_FLOOR = 1e-10, 1e-5


@keras.saving.register_keras_serializable(package="keras_tagger")
class Spectrogram(keras.layers.Layer):
    """Waveform to compressed mel spectrogram.

    Frame i owns the samples `[i * hop_length, (i + 1) * hop_length)`. It is centred on them, with zeros around the
    clip, or, framing "centered", on the first of them, with the clip reflected at its ends (librosa, torchaudio). A
    frame's value depends on its own n_fft samples only, never on the rest of the clip, unless top_db is set.

    Gives float32 whatever the dtype policy, since the power of quiet audio underflows half precision. Decibels are
    computed in float64: in bands far below a frame's loudest, float32's rounding alone makes a decibel and more.

    Args:
        sample_rate: Hz.
        n_fft, hop_length: samples; both even.
        n_mels, f_min, f_max, mel_scale, mel_norm: of the filterbank (librosa's numbers); Hz.
        power: 1 for magnitude, 2 for power.
        compression: "log1p": log(1 + gain * mel); "decibel": 10 log10(max(mel, 1e-10)), torchaudio's of power;
            "amplitude_decibel": 20 log10(max(mel, 1e-5)), librosa's amplitude_to_db.
        gain: of log1p.
        top_db: decibels below the clip's largest value that others are raised to; 0 is off. The only setting under
            which a frame depends on the rest of the clip (Won et al. 2019 were trained so).
        framing: "owned" or "centered".
        stored: whether window [n_fft] and filterbank [n_fft / 2 + 1, n_mels] are weights, which a file brings.

    Call: waveform float [B, samples] in about -1..1 -> float32 [B, frames, n_mels], ceil(samples / hop_length) frames;
        centered, 1 + floor(samples / hop_length) frames of more than n_fft / 2 samples.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 512,
        hop_length: int = 256,
        n_mels: int = 96,
        f_min: float = 0.0,
        f_max: float = 8000.0,
        power: int = 1,
        compression: str = "log1p",
        gain: float = 10000.0,
        mel_scale: str = "slaney",
        mel_norm: str = "slaney",
        top_db: float = 0.0,
        framing: str = "owned",
        stored: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.sample_rate = sample_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.n_mels = n_mels
        self.f_min = f_min
        self.f_max = f_max
        self.power = power
        self.compression = compression
        self.gain = gain
        self.mel_scale = mel_scale
        self.mel_norm = mel_norm
        self.top_db = top_db
        self.framing = framing
        self.stored = stored
        layout = {"input_data_format": "channels_last", "output_data_format": "channels_last"}
        self.precision = "float32" if compression == "log1p" else "float64"
        self.stft = kapre.STFT(n_fft=n_fft, hop_length=hop_length, dtype=self.precision, **layout)
        self.magnitude = kapre.Magnitude(dtype=self.precision)
        # Any type but kapre's own leaves the matrix to us; for its own, kapre imports librosa.
        self.filterbank = kapre.ApplyFilterbank(
            type="given", filterbank_kwargs={}, data_format="channels_last", dtype=self.precision
        )
        self.filterbank.filterbank = tf.constant(self._bands(), self.precision)

    def _bands(self) -> npt.NDArray[Any]:
        return mel_filterbank(
            self.sample_rate, self.n_fft, self.n_mels, self.f_min, self.f_max, self.mel_scale, self.mel_norm
        )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the stored window and filterbank; else there are no weights."""
        if self.stored:
            hann = 0.5 - 0.5 * np.cos(2.0 * np.pi * np.arange(self.n_fft) / self.n_fft)
            self.window, self.bands = (
                self.add_weight(
                    name=name, shape=value.shape, initializer="zeros", trainable=False, dtype="float32", autocast=False
                )
                for name, value in (("window", hann), ("bands", self._bands()))
            )
            self.window.assign(hann)
            self.bands.assign(self._bands())
            self.stft.window_fn = lambda frame_length, dtype: tf.cast(self.window, dtype)
        for layer in (self.stft, self.magnitude, self.filterbank):
            layer.built = True

    def call(self, waveform: tf.Tensor) -> tf.Tensor:
        """Compute the spectrogram of a batch."""
        waveform = tf.cast(waveform, self.precision)
        if self.framing == "centered":
            half = self.n_fft // 2
            padded = tf.pad(waveform, [[0, 0], [half, half]], "REFLECT")
        else:
            n_samples = tf.shape(waveform)[1]
            edge = (self.n_fft - self.hop_length) // 2
            end = edge + self.n_frames(n_samples) * self.hop_length - n_samples
            padded = tf.pad(waveform, [[0, 0], [edge, end]])
        # kapre works on [B, samples, channels] and [B, frames, bins, channels].
        magnitude = self.magnitude(self.stft(padded[:, :, tf.newaxis]))
        if self.power == 2:
            magnitude = tf.square(magnitude)
        if self.stored:
            mel = tf.matmul(tf.squeeze(magnitude, axis=-1), tf.cast(self.bands, self.precision))
        else:
            mel = tf.squeeze(self.filterbank(magnitude), axis=-1)
        if self.compression == "log1p":
            return tf.math.log1p(self.gain * mel)
        factor, floor = (10.0, DECIBEL_FLOOR) if self.compression == "decibel" else (20.0, AMPLITUDE_FLOOR)
        decibels = (factor / np.log(10.0)) * tf.math.log(tf.maximum(mel, floor))
        if self.top_db:
            decibels = tf.maximum(decibels, tf.reduce_max(decibels, axis=[1, 2], keepdims=True) - self.top_db)
        return tf.cast(decibels, tf.float32)

    def n_frames(self, n_samples: Any) -> Any:
        """Frames of a waveform of that many samples, a number or an integer tensor."""
        return 1 + n_samples // self.hop_length if self.framing == "centered" else -(-n_samples // self.hop_length)

    def frame_times(self, n_frames: int) -> npt.NDArray[Any]:
        """Centres of the frames, seconds, float64 [n_frames]."""
        offset = 0.0 if self.framing == "centered" else 0.5
        return (np.arange(n_frames) + offset) * self.hop_length / self.sample_rate

    def mel_frequencies(self) -> npt.NDArray[Any]:
        """Centres of the mel bands, Hz, float64 [n_mels]."""
        return mel_edges(self.n_mels, self.f_min, self.f_max, self.mel_scale)[1:-1]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """[B, samples] -> [B, frames, n_mels]."""
        n_samples = input_shape[1]
        return input_shape[0], None if n_samples is None else self.n_frames(n_samples), self.n_mels

    def get_config(self) -> dict[str, Any]:
        """All constructor arguments."""
        names = (
            *("sample_rate", "n_fft", "hop_length", "n_mels", "f_min", "f_max", "power"),
            *("compression", "gain", "mel_scale", "mel_norm", "top_db", "framing", "stored"),
        )
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}
