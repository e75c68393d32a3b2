"""The addresses that the server listens on, checked alike for gRPC and REST."""

from __future__ import annotations

import errno
import ipaddress
import socket

from keras_tagger.errors import ServingError


def resolve(host: str) -> str:
    """Return the IP address of a host to listen on; of a name with several addresses, the IPv4 address.

    Raises:
        ServingError: If there is no such host.
    """
    bare = host.strip("[]")
    try:
        if ":" in bare:
            return str(ipaddress.IPv6Address(bare))
        return socket.gethostbyname(bare)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ServingError(f"expected an address to listen on. Received: {host!r} ({reason}).") from None


def with_port(address: str, port: int) -> str:
    """Return address and port as one text."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def bind(address: str, port: int) -> socket.socket:
    """Return a socket bound to an address.

    Raises:
        ServingError: If the port is taken or not allowed, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    what = with_port(address, port)
    try:
        bound = socket.socket(family)
    except OSError as error:
        raise ServingError(f"expected an address to listen on. Received: {what} ({error.strerror}).") from None
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and address != "::":
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((address, port))
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRNOTAVAIL:
            text = f"expected an address of this machine to listen on. Received: {address}, which it does not have."
        elif error.errno == errno.EADDRINUSE:
            text = f"expected a free port to listen on. Received: {what}, which is taken."
        else:
            text = f"expected a port that this process may listen on. Received: {what} ({error.strerror})."
        raise ServingError(text) from None
    return bound
