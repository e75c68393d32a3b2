"""The four published models: how a checkpoint's tensors determine the configuration, and where each tensor goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.storage.pytorch.tensors import Tensors

Values = Mapping[str, npt.NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A published model.

    Attributes:
        preset: Its name, which is also that of its preset.
        mark: A tensor that only this model has.
        output: The tensor with a row per tag.
        configure: Returns the settings that differ from the preset, given the tensors.
        fill: Plans the tensors for a model's variables.
    """

    preset: str
    mark: str
    output: str
    configure: Callable[[Values], dict[str, Any]]
    fill: Callable[[Tensors, Any], None]


def _size(values: Values, name: str, axis: int, default: int) -> int:
    """Return a tensor's size, or the preset's if the tensor is missing or has too few axes (an error comes later)."""
    value = values.get(name)
    return int(value.shape[axis]) if value is not None and value.ndim > axis else default


def _count(values: Values, prefix: str, default: int) -> int:
    """Count the layers that are numbered prefix0., prefix1., ...; a single large number does not count as many."""
    names = {name[len(prefix) :].split(".")[0] for name in values if name.startswith(prefix)}
    numbers = [int(name) for name in names if name.isdecimal()]
    return min(max(numbers) + 1, 2 * len(numbers)) if numbers else default


def _encoder_2019(values: Values, prefix: str, width: int) -> dict[str, Any]:
    layer = f"{prefix}encoder.layer."
    return {
        "n_layers": _count(values, layer, 2),
        "width": width,
        "feed_forward": _size(values, f"{layer}0.intermediate.dense.weight", 0, 4 * width),
    }


def _configure_2019(values: Values, channels_of: str) -> dict[str, Any]:
    width = _size(values, "front_end.conv1x1.conv.weight", 0, _size(values, "front_end.conv1x1.weight", 0, 512))
    encoder = _encoder_2019(values, "back_end.", width)
    attention: dict[str, Any] = {}
    if _TABLE_2019 in values:
        # The published ponswon.pth has BERT's embeddings: learnt positions, layer norm and dropout.
        attention = {"positions": "learned", "max_positions": max(_size(values, _TABLE_2019, 0, 271), 2)}
        encoder.update(input_norm=True, input_dropout=True)
    return {
        "front_end": {"channels": [_size(values, channels_of, 0, 16)]},
        "attention": attention,
        "encoder": encoder,
    }


_TABLE_2019 = "back_end.embedding.position_embeddings.weight"


def _configure_2020(values: Values) -> dict[str, Any]:
    n_blocks = 7
    channels = [
        _size(values, f"layer{index}.conv_1.weight", 0, 128 if index < 3 else 256) for index in range(1, n_blocks + 1)
    ]
    return {"front_end": {"channels": channels}, "encoder": _encoder_2019(values, "", channels[-1])}


def _configure_2021(values: Values) -> dict[str, Any]:
    width = _size(values, "cls_token", 0, 256)
    channels = _size(values, "frontend.layer1.conv_1.weight", 0, 128)
    n_mels = 8 * (_size(values, "frontend.fc.weight", 1, 16 * channels) // max(channels, 1))
    return {
        "spectrogram": {"n_mels": n_mels},
        "front_end": {"channels": [channels] * 3},
        "attention": {"max_positions": _size(values, "pos_embedding", 1, 513)},
        "encoder": {
            "n_layers": _count(values, "transformer.layers.", 4),
            "width": width,
            "feed_forward": _size(values, "transformer.layers.0.1.fn.fn.net.0.weight", 0, 4 * width),
        },
    }


def _fill_encoder(tensors: Tensors, model: Any, prefix: str) -> None:
    """Plan BERT's layers and its pooler."""
    for index, block in enumerate(model.encoder.blocks):
        layer = f"{prefix}encoder.layer.{index}"
        for part in ("query", "key", "value"):
            tensors.heads(getattr(block.attention, f"{part}_dense"), f"{layer}.attention.self.{part}")
        tensors.joined_heads(block.attention.output_dense, f"{layer}.attention.output.dense")
        tensors.layer_norm(block.attention_norm, f"{layer}.attention.output.LayerNorm")
        tensors.dense(block.expand, f"{layer}.intermediate.dense")
        tensors.dense(block.contract, f"{layer}.output.dense")
        tensors.layer_norm(block.feed_forward_norm, f"{layer}.output.LayerNorm")
    tensors.dense(model.head.pool, f"{prefix}pooler.dense")


def _fill_2019(tensors: Tensors, model: Any) -> None:
    front_end = model.front_end
    tensors.batch_norm(front_end.input_norm, "front_end.input_bn")
    for index, layer in enumerate([*front_end.vertical, *front_end.horizontal]):
        tensors.convolution(layer, f"front_end.layers.{index}.conv")
        tensors.batch_norm(front_end.norms[index], f"front_end.layers.{index}.bn")
    inputs, width = front_end.project.kernel.shape
    tensors.dense(front_end.project, "front_end.conv1x1", (width, inputs, 1))
    tensors.batch_norm(front_end.project_norm, "front_end.bn")
    _fill_back_end_2019(tensors, model)


def _fill_2019_raw(tensors: Tensors, model: Any) -> None:
    names = ["init_conv", *(f"convs.{index}" for index in range(4)), "conv1x1"]
    for name, layer, norm in zip(names, model.front_end.convolutions, model.front_end.norms, strict=True):
        tensors.convolution(layer, f"front_end.{name}.conv")
        tensors.batch_norm(norm, f"front_end.{name}.bn")
    _fill_back_end_2019(tensors, model)


def _fill_back_end_2019(tensors: Tensors, model: Any) -> None:
    if model.encoder.token_norm is not None:
        tensors.vector(model.positions.table, _TABLE_2019, model.positions.table.shape)
        tensors.layer_norm(model.encoder.token_norm, "back_end.embedding.LayerNorm")
    _fill_encoder(tensors, model, "back_end.")
    tensors.dense(model.head.logits, "classifier")


def _fill_blocks(tensors: Tensors, model: Any, prefix: str) -> None:
    for index, block in enumerate(model.front_end.blocks, 1):
        parts = {"1": block.first, "2": block.second, "3": block.shortcut}
        for number, layer in parts.items():
            if layer is not None:
                name = f"{prefix}layer{index}"
                tensors.conv_norm(layer, f"{name}.conv_{number}", f"{name}.bn_{number}")


def _fill_2020(tensors: Tensors, model: Any) -> None:
    tensors.batch_norm(model.front_end.input_norm, "spec_bn")
    _fill_blocks(tensors, model, "")
    _fill_encoder(tensors, model, "")
    tensors.dense(model.head.logits, "dense")


def _fill_2021(tensors: Tensors, model: Any) -> None:
    front_end = model.front_end
    tensors.batch_norm(front_end.input_norm, "frontend.input_bn")
    _fill_blocks(tensors, model, "frontend.")
    # The authors flatten channels first, this package bands first.
    channels = front_end.channels[-1]
    order = np.arange(front_end.flat).reshape(channels, -1).T.ravel()
    tensors.dense(front_end.project, "frontend.fc", inputs=order)
    width, positions = model.encoder.width, model.positions.table
    tensors.vector(model.class_token.vector, "cls_token", (width,))
    tensors.vector(positions, "pos_embedding", (1, *positions.shape))
    for index, block in enumerate(model.encoder.blocks):
        attention, feed_forward = (f"transformer.layers.{index}.{part}.fn" for part in (0, 1))
        tensors.layer_norm(block.attention_norm, f"{attention}.norm")
        for part, layer in enumerate(
            (block.attention.query_dense, block.attention.key_dense, block.attention.value_dense)
        ):
            rows = slice(part * width, (part + 1) * width)
            tensors.heads(layer, f"{attention}.fn.to_qkv", rows, of=3)
        tensors.joined_heads(block.attention.output_dense, f"{attention}.fn.to_out.0")
        tensors.layer_norm(block.feed_forward_norm, f"{feed_forward}.norm")
        tensors.dense(block.expand, f"{feed_forward}.fn.net.0")
        tensors.dense(block.contract, f"{feed_forward}.fn.net.3")
    tensors.layer_norm(model.encoder.final_norm, "mlp_head.0")
    tensors.dense(model.head.logits, "mlp_head.1")


ARCHITECTURES = {
    architecture.preset: architecture
    for architecture in (
        Architecture(
            "won2019",
            "front_end.layers.0.conv.weight",
            "classifier.weight",
            lambda values: _configure_2019(values, "front_end.layers.0.conv.weight"),
            _fill_2019,
        ),
        Architecture(
            "won2019_raw",
            "front_end.init_conv.conv.weight",
            "classifier.weight",
            lambda values: _configure_2019(values, "front_end.init_conv.conv.weight"),
            _fill_2019_raw,
        ),
        Architecture("won2020", "layer7.conv_1.weight", "dense.weight", _configure_2020, _fill_2020),
        Architecture("won2021", "frontend.layer1.conv_1.weight", "mlp_head.1.weight", _configure_2021, _fill_2021),
    )
}
