"""What an exported file says about its model, so that any program can use it without another file.

    tags.txt             the names of the tags, one per line, in the order of the outputs
    tags.json            what is known about each tag, as in a run directory
    config.yaml          the configuration of the model
    keras_tagger.json    `format_version`, `name`, `precision`, and the numbers of `Description`

ONNX keeps them as metadata properties, LiteRT as a zip archive behind the model, TensorFlow.js as files beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from keras_tagger.config import AudioConfig, ExperimentConfig, ModelConfig, config_from_dict
from keras_tagger.errors import ConfigError, ModelError
from keras_tagger.files import json_text
from keras_tagger.tags import TagInfo, info_from_json, info_to_json

TAGS_TEXT, TAGS_JSON, CONFIG, NUMBERS = "tags.txt", "tags.json", "config.yaml", "keras_tagger.json"
FORMAT_VERSION = 1
OUTPUTS = ("tags", "attention", "contributions", "embedding", "spectrogram")
"""The outputs of an exported model, as `MusicTagger.analyze` describes them."""


@dataclass(frozen=True)
class Description:
    """What a program must know about a model to use it.

    Attributes:
        tags: The names of the outputs.
        info: `TagInfo` by tag.
        config: The configuration; training is of no interest.
        window_samples: The longest clip to pass at once, samples.
        token_samples: Samples from one token to the next.
        rounds_up: Whether an incomplete token at the end of a clip counts.
        precision: "float32", "float16" or "int8".
    """

    tags: tuple[str, ...]
    info: Mapping[str, TagInfo]
    config: ExperimentConfig
    window_samples: int
    token_samples: int
    rounds_up: bool = True
    precision: str = "float32"

    @property
    def audio(self) -> AudioConfig:
        """The audio section of the configuration."""
        return self.config.audio

    @property
    def model(self) -> ModelConfig:
        """The model section of the configuration."""
        return self.config.model

    def to_texts(self) -> dict[str, str]:
        """Return the texts to store, by name."""
        numbers = {
            "format_version": FORMAT_VERSION,
            "name": self.config.name,
            "precision": self.precision,
            "sample_rate": self.config.audio.sample_rate,
            "window_samples": self.window_samples,
            "token_samples": self.token_samples,
            "rounds_up": self.rounds_up,
        }
        return {
            TAGS_TEXT: "".join(f"{tag}\n" for tag in self.tags),
            TAGS_JSON: info_to_json(self.tags, self.info),
            CONFIG: self.config.to_yaml(),
            NUMBERS: json_text(numbers),
        }

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], where: str) -> Description:
        """Read the texts that `to_texts` returned.

        Args:
            texts: The texts by name.
            where: Name of the file, for the error.

        Raises:
            ModelError: If they are missing or of another form.
        """
        import yaml

        try:
            numbers = json.loads(texts[NUMBERS])
            if numbers["format_version"] != FORMAT_VERSION:
                raise ValueError(f"format_version {numbers['format_version']!r}, not {FORMAT_VERSION}")
            tags = tuple(str(row["tag"]) for row in json.loads(texts[TAGS_JSON]))
            return cls(
                tags,
                info_from_json(texts[TAGS_JSON], tags),
                config_from_dict(yaml.safe_load(texts[CONFIG])),
                int(numbers["window_samples"]),
                int(numbers["token_samples"]),
                bool(numbers["rounds_up"]),
                str(numbers["precision"]),
            )
        except KeyError as error:
            raise ModelError(
                f"expected a model that keras_tagger exported. Received: {where}, without {error}."
            ) from None
        except (ValueError, TypeError, yaml.YAMLError, ConfigError, ModelError) as error:
            raise ModelError(f"expected a model that keras_tagger exported. Received: {where} ({error}).") from None
