"""The connection of a client to a server: TLS, message sizes, gRPC's retries, and readable errors.

gRPC is imported when a channel is made, not before.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tagger.errors import ServingError

if TYPE_CHECKING:
    import grpc

# gRPC never makes more than five attempts, the first one included (gRFC A6).
MAX_RETRIES = 4


# Other names that gRPC resolves (https://github.com/grpc/grpc/blob/master/doc/naming.md); it checks what follows.
_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")
_HOST_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+(%\w+)?\]|[^\s:/?#@\[\],]+):(?P<port>\d{1,5})")


def check_address(address: str) -> None:
    """Check that gRPC can resolve an address, because its own errors are traces or come only with the first request.

    Raises:
        ServingError: If the address is neither HOST:PORT nor one of gRPC's URIs, such as `unix:/run/tagger.sock`.
    """
    match = _HOST_PORT.fullmatch(address)
    named = (
        address.startswith(_SCHEMES) and address[address.index(":") + 1 :].strip("/") and not re.search(r"\s", address)
    )
    if match and not 0 < int(match["port"]) < 2**16:
        problem = ", whose port is not in 1..65535"
    elif match or named:
        return
    elif "://" in address:
        problem = f", which has the scheme {address.partition('://')[0]}"
    else:
        problem = ""
    raise ServingError(f"address: expected HOST:PORT, such as localhost:8500. Received: {address!r}{problem}.")


def channel_options(retries: int, wait_for_ready: bool = False) -> tuple[tuple[str, Any], ...]:
    """Return channel options for messages of any size and gRPC's own retries.

    Args:
        retries: How often gRPC repeats a call that fails with UNAVAILABLE, 0..`MAX_RETRIES`. The pauses double from
            0.1 s, up to 2 s, and vary by a fifth so that many clients do not retry at once.
        wait_for_ready: Whether a call waits for a connection until its deadline instead of failing without one.

    Example:
        >>> grpc.insecure_channel("localhost:8500", options=channel_options(retries=4))
    """
    method: dict[str, Any] = {"name": [{}], "waitForReady": wait_for_ready}
    if retries:
        method["retryPolicy"] = {
            "maxAttempts": retries + 1,
            "initialBackoff": "0.1s",
            "maxBackoff": "2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
    return (
        # The default is 4 MiB; one attention map is larger.
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_retries", 1),
        ("grpc.service_config", json.dumps({"methodConfig": [method]})),
        # The default is 256 KiB; gRPC does not repeat a call whose request is larger.
        ("grpc.per_rpc_retry_buffer_size", 2**31 - 1),
        # The pauses between attempts to connect grow to two minutes by default: too long for a server that restarts.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 1000),
        ("grpc.max_reconnect_backoff_ms", 2000),
    )


@dataclass(frozen=True)
class ClientTls:
    """An encrypted connection of a client.

    Attributes:
        root_certificates: PEM file of the authorities that may have signed the server's certificate; None for the ones
            that come with gRPC.
        certificate: PEM file of the client's own certificate, if the server asks for one; needs `key`.
        key: PEM file of the certificate's private key.
        server_name: Name in the server's certificate, if it differs from the host in the address.

    Raises:
        ServingError: If only one of `certificate` and `key` is given.

    Example:
        >>> Client("tagger.example:8500", tls=Tls(root_certificates="ca.pem"))
    """

    root_certificates: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            given, missing = ("certificate", "key") if self.key is None else ("key", "certificate")
            raise ServingError(
                f"tls: expected a client certificate together with its key. Received: {given} without {missing}."
            )

    def credentials(self) -> grpc.ChannelCredentials:
        """Return the credentials for gRPC.

        Raises:
            ServingError: If a file cannot be read or is not PEM.
        """
        import grpc

        return grpc.ssl_channel_credentials(
            _pem(self.root_certificates, "root_certificates"),
            _pem(self.key, "key"),
            _pem(self.certificate, "certificate"),
        )

    def options(self) -> tuple[tuple[str, Any], ...]:
        """Return the channel options that the connection needs in addition."""
        return () if self.server_name is None else (("grpc.ssl_target_name_override", self.server_name),)


# The public name. `ClientTls` distinguishes it from the server's TLS settings.
Tls = ClientTls


def _pem(path: str | Path | None, name: str) -> bytes | None:
    if path is None:
        return None
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ServingError(f"tls: expected a PEM file as {name}. Received: {path} ({error.strerror}).") from None
    # gRPC accepts any file here and fails at the first request, without a reason.
    if b"-----BEGIN " not in data:
        raise ServingError(f"tls: expected a PEM file as {name}. Received: {path}, which is not PEM.")
    return data


def as_serving_error(error: grpc.RpcError, address: str, timeout_seconds: float) -> ServingError:
    """Return a failed call as one sentence, with the name of its status as `code`."""
    code = error.code().name
    details = " ".join((error.details() or "").split())
    if code == "UNAVAILABLE":
        text = f"expected a server at {address}. Received: UNAVAILABLE ({details})"
    elif code == "DEADLINE_EXCEEDED":
        text = (
            f"expected an answer from {address} within {timeout_seconds:g} s. Received: DEADLINE_EXCEEDED ({details})"
        )
    else:
        text = f"server at {address} answered {code}: {details}"
    return ServingError(text, code)
