"""TLS of the gRPC server: certificates that are checked, and read again when their file changes."""

from __future__ import annotations

import datetime
import os
import threading
from dataclasses import dataclass

import grpc

from keras_tagger.errors import ServingError
from keras_tagger.serving import log
from keras_tagger.serving.config_files import MESSAGES, parse_text


@dataclass(frozen=True)
class ServerTls:
    """TLS of the server, as PEM.

    Attributes:
        key: Private key.
        certificate: Certificate chain.
        client_authority: Certificates that sign those of clients; None if the server does not check them.
        client_verify: Whether clients must have a certificate.
    """

    key: bytes
    certificate: bytes
    client_authority: bytes | None
    client_verify: bool


def read_tls(path: str) -> ServerTls:
    """Read and check the SSLConfig of an --ssl_config_file, which contains PEM text, not paths.

    Raises:
        ServingError: If the file is not valid, a certificate has expired, or the key does not fit the certificate.
    """
    config = parse_text(path, MESSAGES["SSLConfig"](), "ssl_config_file")
    for field in ("server_key", "server_cert"):
        if "-----BEGIN " not in getattr(config, field):
            raise ServingError(f"ssl_config_file {path}: expected PEM text as {field}. Received: something else.")
    if config.client_verify and not config.custom_ca:
        raise ServingError(f"ssl_config_file {path}: expected a custom_ca with client_verify. Received: no custom_ca.")
    authority = config.custom_ca.encode() or None
    tls = ServerTls(config.server_key.encode(), config.server_cert.encode(), authority, config.client_verify)
    try:
        _check(tls)
    except ServingError as error:
        raise ServingError(f"ssl_config_file {path}: {error}") from None
    return tls


def _check(tls: ServerTls) -> None:
    try:
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization
    except ImportError:
        log.warning("certificates are not checked; install keras_tagger[tls]")
        return
    now = datetime.datetime.now(datetime.timezone.utc)
    found = {}
    for field, data in (("server_cert", tls.certificate), ("custom_ca", tls.client_authority)):
        if data is None:
            continue
        try:
            found[field] = x509.load_pem_x509_certificates(data)
        except ValueError as error:
            raise ServingError(f"expected certificates as {field}. Received: {error}.") from None
        for certificate in found[field]:
            begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
            if not begin <= now <= end:
                raise ServingError(
                    f"expected a {field} that is valid now. Received: one of {certificate.subject.rfc4514_string()}, "
                    f"valid from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC."
                )
    try:
        key = serialization.load_pem_private_key(tls.key, None)
    except (ValueError, TypeError) as error:
        raise ServingError(f"expected an unencrypted private key as server_key. Received: {error}.") from None
    public = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*public) != found["server_cert"][0].public_key().public_bytes(*public):
        raise ServingError("expected the server_key of server_cert. Received: the key of another certificate.")


class Certificates:
    """The certificates of a file, read again for the next connection after the file has changed.

    Args:
        path: The --ssl_config_file.

    Attributes:
        tls: What the file has; if it is not valid any more, what it had before.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp = self._look()
        self.tls = read_tls(path)

    def credentials(self) -> grpc.ServerCredentials:
        """Return the credentials of a gRPC server."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), self._changed, require_client_authentication=self.tls.client_verify
        )

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(self.tls.key, self.tls.certificate)], root_certificates=self.tls.client_authority
        )

    def _look(self) -> tuple[int, int]:
        try:
            found = os.stat(self._path)
        except OSError:
            return 0, 0
        return found.st_mtime_ns, found.st_ino

    def _changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return the new certificates if there are any; called for every connection."""
        with self._lock:
            stamp = self._look()
            if stamp == self._stamp:
                return None
            self._stamp = stamp
            try:
                tls = read_tls(self._path)
            except ServingError as error:
                log.warning("certificates not reloaded", reason=str(error))
                return None
            if tls.client_verify != self.tls.client_verify:
                log.warning("client_verify changes only when the server is restarted")
            self.tls = tls
            log.info("certificates reloaded", path=self._path)
            return self._configuration()
