"""Tensors in and out of the embedded server: every dtype, every encoding, and what is malformed."""

from __future__ import annotations

import time

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2

from raw_requests import as_numpy, refusal
from served_modules import CLIP, CLIP_TAGS, DTYPES


def tensor(dtype, sizes, **fields):
    proto = tensor_pb2.TensorProto(dtype=dtype, **fields)
    for size in sizes:
        proto.tensor_shape.dim.add(size=size)
    return proto


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
@pytest.mark.parametrize("shape", [(), (2, 3), (0, 2)], ids=str)
def test_every_dtype_comes_back_as_it_went(echo, dtype, shape):
    numbers = np.arange(6)[: int(np.prod(shape))].reshape(shape)
    if dtype == tf.string:
        array = np.vectorize(lambda n: b"\x00\xff" * n + b"\x00", otypes=[object])(numbers) if shape else b"\x00a\x00"
    elif dtype == tf.bool:
        array = numbers % 2 == 0
    elif dtype.is_complex:
        array = (numbers - 2.5j).astype(dtype.as_numpy_dtype)
    else:
        array = (numbers + 1.25).astype(dtype.as_numpy_dtype)
    request = tf.make_tensor_proto(array, dtype=dtype, shape=shape)
    reply = echo.predict({"x": request}, dtype.name).outputs["y"]
    assert reply.dtype == dtype.as_datatype_enum
    assert reply.tensor_content == b""
    assert tuple(dim.size for dim in reply.tensor_shape.dim) == shape
    assert tf.make_ndarray(reply).tolist() == tf.make_ndarray(request).tolist()
    # The typed reply is itself a valid request.
    assert echo.predict({"x": reply}, dtype.name).outputs["y"] == reply


def test_a_typed_field_with_fewer_values_than_declared_repeats_its_last(echo):
    proto = tensor(types_pb2.DT_FLOAT, [4], float_val=[1.0, 2.0])
    assert list(echo.predict({"x": proto}, "float32").outputs["y"].float_val) == [1.0, 2.0, 2.0, 2.0]


UNKNOWN_RANK = tensor(types_pb2.DT_FLOAT, [], float_val=[1.0])
UNKNOWN_RANK.tensor_shape.unknown_rank = True


@pytest.mark.parametrize(
    "proto",
    [
        tensor_pb2.TensorProto(),
        tensor(types_pb2.DT_RESOURCE, [1]),
        tensor(types_pb2.DT_FLOAT_REF, [1], float_val=[1.0]),
        tensor(9999, [1], float_val=[1.0]),
        UNKNOWN_RANK,
        tensor(types_pb2.DT_FLOAT, [1, -1], float_val=[1.0]),
        tensor(types_pb2.DT_FLOAT, [1, 3], tensor_content=bytes(8)),
        tensor(types_pb2.DT_FLOAT, [1, 3], tensor_content=bytes(13)),
        tensor(types_pb2.DT_FLOAT, [1, 2], float_val=[1.0, 2.0, 3.0]),
        tensor(types_pb2.DT_FLOAT, [1, 2**40], float_val=[1.0]),
        tensor(types_pb2.DT_FLOAT, [1, 2**40]),
        tensor(types_pb2.DT_FLOAT, [2**40, 2**40], float_val=[1.0]),
        tensor(types_pb2.DT_FLOAT, [2**62, 4, 0]),
        tensor(types_pb2.DT_FLOAT, [1] * 300, float_val=[1.0]),
        tensor(types_pb2.DT_STRING, [2**16], string_val=[bytes(2**16)]),
        tensor(types_pb2.DT_STRING, [2**40], tensor_content=b"\x00\x00"),
        tensor(types_pb2.DT_STRING, [2], tensor_content=b"\x05\x05a"),
    ],
    ids=lambda proto: f"{proto.dtype}-{[dim.size for dim in proto.tensor_shape.dim][:3]}-{proto.ByteSize()}",
)
def test_a_malformed_tensor(tagger, proto):
    before = time.monotonic()
    assert refusal(tagger.predict, {"waveform": proto}) == (
        "INVALID_ARGUMENT",
        "tensor parsing error: waveform",
    )
    assert time.monotonic() - before < 5
    np.testing.assert_allclose(as_numpy(tagger.predict({"waveform": CLIP}))["tags"], CLIP_TAGS, rtol=1e-6)
