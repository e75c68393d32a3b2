"""--ssl_config_file: encryption, client certificates, and certificates that expire, do not fit or change."""

from __future__ import annotations

import datetime
import json
import logging
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tensorflow_serving.apis import predict_pb2

from keras_tagger.errors import ServingError
from keras_tagger.serving.server import Server
from keras_tagger.serving.tls import read_tls
from raw_requests import Raw, as_numpy, refusal

x509 = pytest.importorskip("cryptography.x509")
from cryptography.hazmat.primitives import hashes, serialization  # noqa: E402
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

WORDS = {"words": np.array([b"a"], object), "counts": np.array([3], np.int32)}


def pair(days: tuple[int, int] = (-1, 1)) -> dict[str, str]:
    """A new key and its certificate for localhost, valid from and to so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    begin, end = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=day) for day in days)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin, end)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return {"server_key": key.private_bytes(*plain).decode(), "server_cert": pem}


def write(path: Path, **fields: Any) -> str:
    path.write_text("\n".join(f"{name}: {json.dumps(value)}" for name, value in fields.items()))
    return str(path)


def product(port: int, trusted: dict[str, str], own: dict[str, str] | None = None) -> list[int]:
    files = (own["server_key"].encode(), own["server_cert"].encode()) if own else (None, None)
    credentials = grpc.ssl_channel_credentials(trusted["server_cert"].encode(), *files)
    with grpc.secure_channel(f"localhost:{port}", credentials) as channel:
        raw = Raw(port)
        raw.prediction.Predict = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=predict_pb2.PredictResponse.FromString,
        )
        return as_numpy(raw.predict(WORDS, timeout=10))["product"].tolist()


def test_encryption_and_a_change_of_certificates(words_base: Path, tmp_path: Path) -> None:
    old, new = pair(), pair()
    file = tmp_path / "ssl.config"
    with Server(words_base, "m", port=0, ssl_config_file=write(file, **old)) as server:
        assert product(server.port, old) == [9]
        assert refusal(Raw(server.port).predict, WORDS, timeout=5)[0] == "UNAVAILABLE"
        # What does not parse, or has expired, changes nothing.
        for wrong in ({"server_key": "x"}, pair((-3, -2))):
            write(file, **wrong)
            assert product(server.port, old) == [9]
        write(file, **new)
        assert product(server.port, new) == [9]
        assert refusal(product, server.port, old)[0] == "UNAVAILABLE"


def test_client_certificates_and_a_warning_about_rest(
    words_base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = pair()
    both = write(tmp_path / "ssl.config", **one, custom_ca=one["server_cert"], client_verify=True)
    with (
        caplog.at_level(logging.WARNING, "keras_tagger.serving"),
        Server(words_base, "m", port=0, rest_api_port=-1, ssl_config_file=both) as server,
    ):
        assert product(server.port, one, own=one) == [9]
        assert refusal(product, server.port, one)[0] == "UNAVAILABLE"
    assert "REST is not encrypted, and asks for no certificate" in caplog.text


def test_files_that_are_refused(tmp_path: Path) -> None:
    good = pair()
    for fields, text in [
        ({"server_key": "x", "server_cert": "y"}, "expected PEM text as server_key"),
        ({**good, "client_verify": True}, "expected a custom_ca with client_verify"),
        ({"nonsense": "x"}, "expected a SSLConfig in protobuf text format"),
        (pair((-3, -2)), r"expected a server_cert that is valid now. Received: one of CN=localhost, valid from "),
        (pair((2, 3)), "expected a server_cert that is valid now"),
        ({**good, "custom_ca": pair((-3, -2))["server_cert"]}, "expected a custom_ca that is valid now"),
        ({**good, "server_key": pair()["server_key"]}, "Received: the key of another certificate"),
    ]:
        with pytest.raises(ServingError, match=text):
            read_tls(write(tmp_path / "ssl.config", **fields))
    with pytest.raises(ServingError, match="ssl_config_file: expected a readable file"):
        read_tls(str(tmp_path / "none"))
