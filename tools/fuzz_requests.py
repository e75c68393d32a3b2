"""The malformed requests of fuzz_server.py.

Random bytes, wrong shapes and dtypes, truncated and mutated messages, garbage over HTTP, and slow connections.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

import served

HTTP_SECONDS = 60.0
PREDICT_URL = f"/v1/models/{served.MODEL}:predict"
HUGE = 2**62
DTYPES = [number for number in types_pb2.DataType.values() if number < 100]


@dataclass(frozen=True)
class Attack:
    """One malformed request.

    Attributes:
        kind: Short name, by which replies are counted.
        body: What is sent: a gRPC message, or everything from the HTTP request line on.
        method: gRPC method ("Predict", or a whole path); empty for HTTP.
    """

    kind: str
    body: bytes
    method: str = ""


class Corpus:
    """Valid requests for the served signatures, and attacks made from them."""

    def __init__(self, requests: dict[str, predict_pb2.PredictRequest], output: tuple[str, str]) -> None:
        self._requests = requests
        self._names = sorted(requests)
        signature, self._output = output
        self.proper = requests[signature].SerializeToString()
        self._grpc: list[Callable[[np.random.Generator], Attack]] = [
            *(random_message, self._random_tensor, self._huge_shape, self._wrong_dtype, self._cut, self._mutated),
            *(self._typed_lies, self._names_and_versions, self._values, self._other_method),
        ]
        self._rest = [self._garbage_http, self._rest_json, self._rest_mutated, self._rest_path]

    def attack(self, rng: np.random.Generator, rest: bool) -> Attack:
        """Return the next attack; three of ten use HTTP if `rest`."""
        makers = self._rest if rest and rng.random() < 0.3 else self._grpc
        return makers[int(rng.integers(len(makers)))](rng)

    def scores(self, answer: bytes) -> np.ndarray:
        """Return the output that identifies the reply to a valid request."""
        return tf.make_ndarray(predict_pb2.PredictResponse.FromString(answer).outputs[self._output])

    def _any(self, rng: np.random.Generator) -> tuple[str, predict_pb2.PredictRequest, str]:
        """Return a copy of a valid request, with the names of its signature and of one input."""
        name = self._names[int(rng.integers(len(self._names)))]
        request = predict_pb2.PredictRequest()
        request.CopyFrom(self._requests[name])
        inputs = sorted(request.inputs)
        return name, request, inputs[int(rng.integers(len(inputs)))]

    def _random_tensor(self, rng: np.random.Generator) -> Attack:
        _, request, alias = self._any(rng)
        request.inputs[alias].Clear()
        with contextlib.suppress(Exception):
            request.inputs[alias].MergeFromString(rng.bytes(int(rng.integers(1, 200))))
        if rng.random() < 0.7:
            request.inputs[alias].dtype = types_pb2.DT_FLOAT
            request.inputs[alias].tensor_content = rng.bytes(int(rng.integers(0, 2000)))
        return Attack("random bytes as a tensor", request.SerializeToString(), "Predict")

    def _huge_shape(self, rng: np.random.Generator) -> Attack:
        _, request, alias = self._any(rng)
        tensor = request.inputs[alias]
        shapes = [[HUGE], [2**31, 2**31], [1, HUGE], [2**40, 1], [-1, 5], [-(2**63)], [2**20, 2**20], [0, HUGE]]
        del tensor.tensor_shape.dim[:]
        for size in [*shapes, [1] * 300][int(rng.integers(len(shapes) + 1))]:
            tensor.tensor_shape.dim.add(size=size)
        if rng.random() < 0.5:
            # One value that a declared shape would repeat.
            tensor.tensor_content = b""
            tensor.float_val[:] = [0.5]
        if rng.random() < 0.2:
            tensor.tensor_shape.unknown_rank = True
        return Attack("huge declared shape", request.SerializeToString(), "Predict")

    def _wrong_dtype(self, rng: np.random.Generator) -> Attack:
        _, request, alias = self._any(rng)
        request.inputs[alias].dtype = DTYPES[int(rng.integers(len(DTYPES)))]
        return Attack("wrong dtype", request.SerializeToString(), "Predict")

    def _typed_lies(self, rng: np.random.Generator) -> Attack:
        """Put values into fields of other dtypes, or more values than the shape has."""
        _, request, alias = self._any(rng)
        tensor = request.inputs[alias]
        tensor.tensor_content = b""
        count = int(rng.integers(0, 50))
        for field in ("float_val", "double_val", "int_val", "int64_val", "bool_val", "half_val", "uint64_val"):
            if rng.random() < 0.4:
                getattr(tensor, field).extend([1] * count)
        if rng.random() < 0.4:
            tensor.string_val.extend([rng.bytes(20)] * count)
        return Attack("values in the wrong fields", request.SerializeToString(), "Predict")

    def _values(self, rng: np.random.Generator) -> Attack:
        """Send invalid clips: no samples, no clips, not finite, wrong rank, huge numbers, odd tf.Examples."""
        _, request, alias = self._any(rng)
        tensor = request.inputs[alias]
        if tensor.dtype == types_pb2.DT_STRING:
            strings = [[b""], [], [rng.bytes(300)] * 3, [b"RIFF" + rng.bytes(60)], [bytes(1000)]]
            array = np.array(strings[int(rng.integers(len(strings)))], object)
        else:
            value = np.float32([np.nan, np.inf, -np.inf, 3e38, 0.0, 1e-45][int(rng.integers(6))])
            shapes = [(0,), (0, 0), (1, 0), (0, 100), (), (5,), (1, 2, 3), (1, 1), (2, 700), (1, 1, 1, 1, 1, 1)]
            array = np.full(shapes[int(rng.integers(len(shapes)))], value, np.float32)
        tensor.CopyFrom(tf.make_tensor_proto(array))
        return Attack("impossible clips", request.SerializeToString(), "Predict")

    def _cut(self, rng: np.random.Generator) -> Attack:
        _, request, _ = self._any(rng)
        whole = request.SerializeToString()
        return Attack("cut message", whole[: int(rng.integers(0, len(whole)))], "Predict")

    def _mutated(self, rng: np.random.Generator) -> Attack:
        """Bytes of the message replaced, put in or taken out, mostly near its start, where lengths and names are."""
        _, request, _ = self._any(rng)
        data = bytearray(request.SerializeToString())
        for _ in range(int(rng.integers(1, 12))):
            place = int(rng.integers(0, min(len(data), 120 if rng.random() < 0.8 else len(data))))
            match int(rng.integers(3)):
                case 0:
                    data[place] = int(rng.integers(256))
                case 1:
                    data[place:place] = rng.bytes(int(rng.integers(1, 9)))
                case _:
                    del data[place : place + int(rng.integers(1, 9))]
        return Attack("mutated message", bytes(data), "Predict")

    def _names_and_versions(self, rng: np.random.Generator) -> Attack:
        _, request, alias = self._any(rng)
        odd = text(rng)
        match int(rng.integers(7)):
            case 0:
                request.model_spec.name = odd
            case 1:
                request.model_spec.signature_name = odd
            case 2:
                request.model_spec.version_label = odd
            case 3:
                request.model_spec.version.value = int(rng.integers(-(2**63), 2**63 - 1))
            case 4:
                request.inputs[odd].CopyFrom(request.inputs[alias])
            case 5:
                request.output_filter.extend([odd] * int(rng.integers(1, max(2, 2_000_000 // (1000 + len(odd))))))
            case _:
                request.ClearField(["model_spec", "inputs"][int(rng.integers(2))])
        return Attack("odd names and versions", request.SerializeToString(), "Predict")

    def _other_method(self, rng: np.random.Generator) -> Attack:
        methods = ["Classify", "Regress", "MultiInference", "GetModelMetadata", "NoSuchMethod", "/no.such.Service/Call"]
        methods += [
            f"/tensorflow.serving.ModelService/{name}" for name in ("GetModelStatus", "HandleReloadConfigRequest")
        ]
        method = methods[int(rng.integers(len(methods)))]
        if method == "GetModelMetadata" and rng.random() < 0.5:
            request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=[text(rng)])
            request.model_spec.name = served.MODEL
            return Attack("other methods", request.SerializeToString(), method)
        body = self.proper if rng.random() < 0.5 else rng.bytes(int(rng.integers(0, 500)))
        # A reload that names nothing is an order to serve nothing, not a mistake.
        if method.endswith("HandleReloadConfigRequest"):
            body = b"\x0a\xff\xff\xff" + rng.bytes(20)
        return Attack("other methods", body, method)

    def _garbage_http(self, rng: np.random.Generator) -> Attack:
        starts = [
            *(
                b"",
                b"GET ",
                b"POST ",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            ),
            *(
                b"GET / HTTP/9.9\r\n\r\n",
                b"DELETE /v1/models HTTP/1.1\r\n\r\n",
                b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n",
            ),
            b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 500 + b"\r\n",
            f"POST {PREDICT_URL} HTTP/1.1\r\nContent-Length: -5\r\n\r\n".encode(),
            f"POST {PREDICT_URL} HTTP/1.1\r\nContent-Length: 99999999999999\r\n\r\n{{".encode(),
            f"POST {PREDICT_URL} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
            f"POST {PREDICT_URL} HTTP/1.1\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!".encode(),
        ]
        start = starts[int(rng.integers(len(starts)))]
        return Attack("garbage over HTTP", start + rng.bytes(int(rng.integers(0, 300))))

    def _rest_json(self, rng: np.random.Generator) -> Attack:
        bodies: list[Any] = [
            *(None, [], {}, 5, "x", {"instances": []}, {"instances": {}}, {"inputs": None}, {"instances": [[]]}),
            {"instances": [[0.1, 0.2], [0.1]]},
            {"instances": [[[1], 2]], "inputs": {}},
            {"instances": [{"waveform": "text"}]},
            {"instances": [{"waveform": [0.1] * 400}], "signature_name": text(rng)},
            {"inputs": {"waveform": [[1e400, -1e400]]}},
            {"inputs": {"waveform": {"b64": "!!!"}}},
            {"inputs": {"waveform": [[{"b64": 3}]]}},
            {"inputs": {text(rng): [[0.0]]}},
            {"instances": [[True, None, "a"]]},
            {"signature_name": "classify", "inputs": {"inputs": [{"b64": "AAAA"}, "x", 1]}},
            {"signature_name": 5, "instances": [[0.0]]},
        ]
        body = json.dumps(bodies[int(rng.integers(len(bodies)))])
        if rng.random() < 0.1:
            body = "[" * 100_000
        return Attack("JSON that says nonsense", post(body.encode()))

    def _rest_mutated(self, rng: np.random.Generator) -> Attack:
        data = bytearray(json.dumps({"instances": [{"waveform": [0.25] * 300}]}).encode())
        for _ in range(int(rng.integers(1, 8))):
            place = int(rng.integers(0, len(data)))
            data[place : place + int(rng.integers(0, 3))] = rng.bytes(int(rng.integers(0, 3)))
        return Attack("mutated JSON", post(bytes(data)))

    def _rest_path(self, rng: np.random.Generator) -> Attack:
        paths = [
            *(
                "/",
                "/v1",
                "/v1/models/",
                "/v1/models/x:predict",
                f"/v1/models/{served.MODEL}:fly",
                "/v1/models/%00:predict",
            ),
            *(f"/v1/models/{served.MODEL}/versions/{v}:predict" for v in ("abc", "-1", "99999999999999999999", "7")),
            f"/v1/models/{served.MODEL}/labels/%0d%0aX:predict",
            "/v1/models/../../etc/passwd",
            "/monitoring/../x",
        ]
        path = paths[int(rng.integers(len(paths)))]
        method = ("GET", "POST", "PUT", "OPTIONS", "TRACE")[int(rng.integers(5))]
        body = b'{"instances": [[0.0]]}'
        return Attack("paths of nothing", post(body, path, method))


def random_message(rng: np.random.Generator) -> Attack:
    """Return random bytes instead of a message."""
    return Attack("random bytes", rng.bytes(int(rng.integers(0, 3000))), "Predict")


def text(rng: np.random.Generator) -> str:
    """Return an unusual name."""
    choices = [
        "",
        "x",
        "\r\nInjected: 1",
        "\x00",
        "../../etc/passwd",
        "%s%n",
        "é" * 700,
        "a" * 100_000,
        "node",
    ]
    return choices[int(rng.integers(len(choices)))]


def post(body: bytes, path: str = PREDICT_URL, method: str = "POST") -> bytes:
    """Return a complete HTTP request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + body


def send_http(port: int, data: bytes) -> tuple[str, str]:
    """Send bytes, close the sending side, and return the status and the whole text of the reply."""
    received = bytearray()
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=HTTP_SECONDS) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                received += piece
                if len(received) > 2**20:
                    break
    except TimeoutError:
        return "no answer", ""
    except OSError:
        return "closed", received.decode("utf-8", "replace")
    answer = received.decode("utf-8", "replace")
    status = (
        answer.split(maxsplit=2)[1] if answer.startswith("HTTP/") and len(answer.split(maxsplit=2)) > 1 else "closed"
    )
    return f"HTTP {status}" if status.isdigit() else status, answer


class SlowLoris:
    """Connections that send an endless request, one byte a second, until the block ends."""

    def __init__(self, ports: Sequence[int]) -> None:
        self._ports = ports
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> SlowLoris:
        self._threads = [threading.Thread(target=self._dribble, args=(port,), daemon=True) for port in self._ports]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=10)

    def _dribble(self, port: int) -> None:
        data = f"POST {PREDICT_URL} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\nX-Slow: ".encode()
        while not self._stop.is_set():
            # If the server hangs up, connect again.
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                for byte in data + b"a" * 10_000:
                    connection.sendall(bytes([byte]))
                    if self._stop.wait(1.0):
                        return
            self._stop.wait(0.5)


def wav(waveform: np.ndarray) -> bytes:
    """Return a WAV file: 16 bits, mono, 16 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((waveform * 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def make_corpus(address: str) -> Corpus:
    """Return valid requests for every signature in the metadata of a server.

    Two-dimensional float inputs get half a second of a tone, `audio_bytes` a WAV file of it, and other strings a
    tf.Example with it; other inputs are omitted.
    """
    with grpc.insecure_channel(address, options=served.UNLIMITED) as channel:
        ask = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        ask.model_spec.name = served.MODEL
        call = channel.unary_unary("/tensorflow.serving.PredictionService/GetModelMetadata")
        answer = get_model_metadata_pb2.GetModelMetadataResponse.FromString(call(ask.SerializeToString(), timeout=60))
    signatures = get_model_metadata_pb2.SignatureDefMap()
    answer.metadata["signature_def"].Unpack(signatures)
    tone = np.sin(np.arange(8000, dtype=np.float32) / 10.0) * np.float32(0.3)
    values = tf.train.Feature(float_list=tf.train.FloatList(value=tone))
    example = tf.train.Example(features=tf.train.Features(feature={"waveform": values})).SerializeToString()
    requests: dict[str, predict_pb2.PredictRequest] = {}
    for name, signature in signatures.signature_def.items():
        request = predict_pb2.PredictRequest()
        request.model_spec.name = served.MODEL
        request.model_spec.signature_name = name
        for alias, info in signature.inputs.items():
            if info.dtype == types_pb2.DT_FLOAT and len(info.tensor_shape.dim) == 2:
                request.inputs[alias].CopyFrom(tf.make_tensor_proto(tone[np.newaxis]))
            elif info.dtype == types_pb2.DT_STRING:
                string = wav(tone) if alias == "audio_bytes" else example
                request.inputs[alias].CopyFrom(tensor_pb2.TensorProto(dtype=info.dtype, string_val=[string]))
                request.inputs[alias].tensor_shape.dim.add(size=1)
        if request.inputs:
            requests[name] = request
    signature = "serving_default"
    output = min(signatures.signature_def[signature].outputs)
    return Corpus(requests, (signature, output))
