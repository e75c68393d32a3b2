"""How the clients reach a server: new attempts, deadlines, encryption, versions and the errors of all of them."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import threading
import time

import grpc
import numpy as np
import pytest

from keras_tagger.client import AsyncClient, Client, ClientTls, Tls
from keras_tagger.errors import ServingError
from scripted import scripted_server, waveforms

CLIP = (np.full(16000, 0.25, np.float32), 16000)


def answer(number, request, context):
    return {"embedding": waveforms(request).mean(axis=1, keepdims=True)}, 1


def unavailable(times: int):
    """Answers after so many refusals, as a server whose queue is full."""

    def refuse(number, request, context):
        if number < times:
            context.abort(grpc.StatusCode.UNAVAILABLE, "The batch queue is full")
        return answer(number, request, context)

    return refuse


def embed(kind: type, address: str, clip=CLIP, **settings):
    """`embed` of a clip by either client."""
    if kind is Client:
        with Client(address, **settings) as client:
            return client.embed(clip)

    async def ask():
        async with AsyncClient(address, **settings) as client:
            return await client.embed(clip)

    return asyncio.run(ask())


BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])


@BOTH
@pytest.mark.parametrize(
    ("address", "problem"),
    [
        *(
            (text, "")
            for text in ("", " ", ":8500", "host:", "host", "host:x", "h ost:8500", "host:8500 ", "host:8500/x")
        ),
        *((text, "") for text in ("::1:8500", "user@host:8500", "host:-1", "host:8500,other:8500", "dns:", "unix:")),
        ("http://host:8500", ", which has the scheme http"),
        ("grpc://host:8500", ", which has the scheme grpc"),
        ("host:0", ", whose port is not in 1..65535"),
        ("host:99999", ", whose port is not in 1..65535"),
    ],
)
def test_an_address_that_names_no_server_is_refused_at_once(kind, address, problem):
    with pytest.raises(ServingError) as caught:
        embed(kind, address)
    assert str(caught.value) == (
        f"address: expected HOST:PORT, such as localhost:8500. Received: {address!r}{problem}."
    )


@pytest.mark.parametrize(
    "address", ["[::1]:8500", "10.0.0.1:1", "my_host.example:65535", "dns:///host:8500", "dns:8500", "unix:/tmp/x.sock"]
)
def test_other_addresses_are_left_to_grpc(address):
    Client(address).close()


@BOTH
def test_a_server_without_room_is_asked_again(kind):
    with scripted_server(unavailable(3)) as (address, server):
        begin = time.monotonic()
        assert embed(kind, address)[0] == 0.25
        assert server.count == 4
        # 0.1, 0.2 and 0.4 s, each less a fifth at most.
        assert time.monotonic() - begin > 0.55


@BOTH
def test_a_large_request_is_asked_again_too(kind):
    # A minute at 16 kHz is 3.8 MB; gRPC keeps 256 KiB for new attempts unless it is told otherwise.
    with scripted_server(unavailable(1)) as (address, server):
        assert embed(kind, address, clip=(np.full(60 * 16000, 0.25, np.float32), 16000))[0] == pytest.approx(0.25)
        assert server.count == 2


@BOTH
def test_after_so_many_attempts_it_is_told(kind):
    with scripted_server(unavailable(99)) as (address, server):
        with pytest.raises(ServingError) as caught:
            embed(kind, address, retries=2)
        assert str(caught.value) == (f"expected a server at {address}. Received: UNAVAILABLE (The batch queue is full)")
        assert caught.value.code == "UNAVAILABLE"
        assert server.count == 3
        with pytest.raises(ServingError):
            embed(kind, address, retries=0)
        assert server.count == 4


@BOTH
def test_a_refusal_is_not_asked_again(kind):
    def refuse(number, request, context):
        context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found\n for request: Latest(m)")

    with scripted_server(refuse) as (address, server):
        with pytest.raises(ServingError) as caught:
            embed(kind, address)
        assert str(caught.value) == f"server at {address} answered NOT_FOUND: Servable not found for request: Latest(m)"
        assert caught.value.code == "NOT_FOUND"
        assert server.count == 1


@BOTH
@pytest.mark.parametrize("settings", [{}, {"retries": 0, "wait_for_ready": True}])
def test_a_server_that_comes_up_meanwhile_is_found(kind, settings):
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        port = listener.getsockname()[1]
    done = threading.Event()

    def late():
        time.sleep(0.4)
        with scripted_server(answer, port):
            done.wait(30)

    thread = threading.Thread(target=late)
    thread.start()
    try:
        assert embed(kind, f"localhost:{port}", **settings)[0] == 0.25
    finally:
        done.set()
        thread.join()


@BOTH
def test_the_deadline_is_for_all_attempts(kind):
    def slow(number, request, context):
        time.sleep(5.0)
        return answer(number, request, context)

    with scripted_server(slow) as (address, _):
        begin = time.monotonic()
        with pytest.raises(ServingError, match=rf"an answer from {address} within 0\.5 s\. Received: DEADLINE_"):
            embed(kind, address, timeout_seconds=0.5)
        assert time.monotonic() - begin < 4.0
    # Five attempts would take a second at least, and end with UNAVAILABLE.
    with (
        scripted_server(unavailable(99)) as (address, _),
        pytest.raises(ServingError, match=r"within 0\.5 s\. Received: DEADLINE_EXCEEDED"),
    ):
        embed(kind, address, timeout_seconds=0.5)


def test_version_and_label_are_asked_for():
    specs = []

    def note(number, request, context):
        specs.append((request.model_spec.name, request.model_spec.version.value, request.model_spec.version_label))
        return answer(number, request, context)

    with scripted_server(note) as (address, _):
        for settings in ({}, {"version": 7}, {"version_label": "canary", "model_name": "m"}):
            embed(Client, address, **settings)
    assert specs == [("keras_tagger", 0, ""), ("keras_tagger", 7, ""), ("m", 0, "canary")]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, and a server's (for `tagger.example`) and a client's certificate signed by it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("expected openssl on PATH to make certificates")
    folder = tmp_path_factory.mktemp("tls")

    def run(*words: str) -> None:
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    run("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=authority")
    for name in ("server", "client"):
        (folder / f"{name}.txt").write_text("subjectAltName=DNS:tagger.example\n")
        run("req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.txt")
        run("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signed)
    return folder


@BOTH
def test_encrypted_with_certificates_on_both_sides(kind, certificates):
    def read(name: str) -> bytes:
        return (certificates / name).read_bytes()

    credentials = grpc.ssl_server_credentials([(read("server.key"), read("server.pem"))], read("ca.pem"), True)
    whole = {
        "root_certificates": certificates / "ca.pem",
        "certificate": certificates / "client.pem",
        "key": certificates / "client.key",
        "server_name": "tagger.example",
    }
    with scripted_server(answer, credentials=credentials) as (address, server):
        assert embed(kind, address, tls=Tls(**whole))[0] == 0.25
        assert server.count == 1
        lacking = (
            None,
            Tls(root_certificates=whole["root_certificates"], server_name=whole["server_name"]),
            Tls(**{**whole, "root_certificates": None}),
            Tls(**{**whole, "server_name": None}),
        )
        for tls in lacking:
            with pytest.raises(ServingError, match="UNAVAILABLE"):
                embed(kind, address, tls=tls, retries=0)
        assert server.count == 1


def test_mistakes_in_certificates(certificates, tmp_path):
    with pytest.raises(ServingError, match=r"certificate together with its key\. Received: key without certificate\."):
        Tls(key="x.key")
    with pytest.raises(ServingError, match=r"as root_certificates\. Received: .*none\.pem \(No such file"):
        Client(tls=Tls(root_certificates=tmp_path / "none.pem"))
    (tmp_path / "text.pem").write_text("not a certificate")
    with pytest.raises(ServingError, match=r"as certificate\. Received: .*text\.pem, which is not PEM\."):
        Client(tls=Tls(certificate=tmp_path / "text.pem", key=certificates / "client.key"))


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"timeout_seconds": 0}, "timeout_seconds: expected a time above 0. Received: 0."),
        *(
            (
                {"retries": retries},
                "retries: expected 0 to 4, gRPC's limit (to wait longer for a server that starts, pass "
                f"wait_for_ready=True). Received: {retries}.",
            )
            for retries in (-1, 5)
        ),
        ({"version": 1, "version_label": "x"}, "expected a version or a label. Received: both, 1 and 'x'."),
    ],
)
def test_mistakes_in_settings(settings, text):
    with pytest.raises(ServingError) as caught:
        Client(**settings)
    assert str(caught.value) == text


def test_inputs_that_are_no_tensors():
    with scripted_server(answer) as (address, server), Client(address) as client:
        with pytest.raises(ServingError, match=r"^input x: expected an array of numbers, booleans or bytes"):
            client.predict({"x": np.array([object()])})
        client.close()
        with pytest.raises(ServingError, match=r"^expected an open client"):
            client.predict({"x": np.zeros(1, np.float32)})
        assert server.count == 0


def test_a_closed_async_client():
    async def ask():
        client = AsyncClient("localhost:1")
        await client.close()
        await client.predict({"x": np.zeros(1, np.float32)})

    with pytest.raises(ServingError, match=r"^expected an open client"):
        asyncio.run(ask())


def test_one_name_for_the_settings_of_tls():
    assert Tls is ClientTls
