"""How a client reaches a server: TLS, message sizes, what is tried again, and errors in one sentence.

gRPC is imported when a channel is made, not before.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_tagger.errors import ServingError

if TYPE_CHECKING:
    import grpc

# gRPC takes 4 MiB by default; one attention map is larger. Its own pauses between attempts to connect grow to two
# minutes, in which a call fails at once: too long for a server that restarts.
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 2000),
)


@dataclass(frozen=True)
class Tls:
    """An encrypted connection.

    Attributes:
        root_certificates: PEM file of the authorities that may have signed the server's certificate; None for those
            that gRPC brings.
        certificate: PEM file of the client's own certificate, for a server that asks for one; needs `key`.
        key: PEM file of its private key.
        server_name: The name in the server's certificate where it is not the host of the address.
    """

    root_certificates: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            given, missing = ("certificate", "key") if self.key is None else ("key", "certificate")
            raise ServingError(
                f"tls: expected a client's certificate together with its key. Received: {given} without {missing}."
            )

    def credentials(self) -> grpc.ChannelCredentials:
        """gRPC's form of it; ServingError for files that cannot be read."""
        import grpc

        return grpc.ssl_channel_credentials(
            _pem(self.root_certificates, "root_certificates"),
            _pem(self.key, "key"),
            _pem(self.certificate, "certificate"),
        )

    def options(self) -> tuple[tuple[str, Any], ...]:
        """Further channel options."""
        return () if self.server_name is None else (("grpc.ssl_target_name_override", self.server_name),)


def _pem(path: str | Path | None, name: str) -> bytes | None:
    if path is None:
        return None
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ServingError(f"tls: expected a PEM file as {name}. Received: {path} ({error.strerror}).") from None
    # gRPC itself says nothing about such a file and fails at the first request, without a reason.
    if b"-----BEGIN " not in data:
        raise ServingError(f"tls: expected a PEM file as {name}. Received: {path}, which is none.")
    return data


@dataclass(frozen=True)
class Backoff:
    """Pauses before a request is sent again to a server that is unavailable: doubled each time, and random.

    Attributes:
        retries: How often at most; 0 for never.
        first_seconds: The first pause is between half of this and all of it.
        most_seconds: No pause is longer.
    """

    retries: int = 4
    first_seconds: float = 0.1
    most_seconds: float = 2.0

    def pause(self, attempt: int) -> float | None:
        """Seconds to wait after failed attempt number `attempt` (from 0); None to give up."""
        if attempt >= self.retries:
            return None
        # Random, so that the clients of a server that restarts do not come back all at once.
        return min(self.first_seconds * 2.0**attempt, self.most_seconds) * random.uniform(0.5, 1.0)


def is_unavailable(error: grpc.RpcError) -> bool:
    """Whether the server could not be reached or had no room: the same request may succeed a moment later."""
    import grpc

    return error.code() is grpc.StatusCode.UNAVAILABLE


def as_serving_error(error: grpc.RpcError, address: str, timeout_seconds: float) -> ServingError:
    """A failed call in one sentence, with the name of its status as `code`."""
    code = error.code().name
    details = " ".join((error.details() or "").split())
    if code == "UNAVAILABLE":
        text = f"expected a server at {address}. Received: UNAVAILABLE ({details})"
    elif code == "DEADLINE_EXCEEDED":
        text = f"expected an answer of {address} within {timeout_seconds:g} s. Received: DEADLINE_EXCEEDED ({details})"
    else:
        text = f"server at {address} answered {code}: {details}"
    return ServingError(text, code)
