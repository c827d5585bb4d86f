"""A certificate, its key and its clients' authorities: read from files, judged, made into an SSLContext.

Decides whether a pair may be used at all, and says what is wrong in terms of the option. Never serves, never watches.
"""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from model_gateway.config.errors import ConfigError
from model_gateway.config.tls import TlsFiles
from model_gateway.tls.spoken import SpokenContext
from model_gateway.tls.validity import Validity, validity

_CERTIFICATE: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_KEY: Final = re.compile(rb"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----")
_MAX_BYTES: Final = 1024 * 1024
_DER: Final = b"\x30"  # how a certificate or a key begins that is no PEM
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_ATTEMPTS: Final = 3  # for files that are being replaced just now


@dataclass(frozen=True, slots=True)
class Material:
    """What one section's files said together. For new connections: `context` of HTTP/1.1, `http2` of gRPC."""

    context: ssl.SSLContext = field(repr=False)
    http2: ssl.SSLContext = field(repr=False)
    cert: bytes = field(repr=False)
    key: bytes = field(repr=False)
    client_ca: bytes = field(repr=False)
    valid: Validity

    def same_as(self, other: Material) -> bool:
        return (self.cert, self.key, self.client_ca) == (other.cert, other.key, other.client_ca)


def files_of(config: TlsFiles) -> list[str]:
    return [path for path in (config.cert, config.key, config.client_ca) if path]


def read(section: str, config: TlsFiles, now: float) -> Material:
    """Raises ConfigError that names the option. `section` is server.tls or server.control_tls."""
    for _attempt in range(_ATTEMPTS):
        cert = _read(f"{section}.cert", config.cert)
        key = _read(f"{section}.key", config.key)
        client_ca = _read(f"{section}.client_ca", config.client_ca) if config.client_ca else b""
        chain = _certificates(f"{section}.cert", config.cert, cert)
        _check_key(f"{section}.key", config.key, key)
        if client_ca:
            _certificates(f"{section}.client_ca", config.client_ca, client_ca)
        valid = _validity(f"{section}.cert", config.cert, chain[0], now)
        context, http2 = _context(section, config, "http/1.1"), _context(section, config, "h2")
        # OpenSSL reads the files itself: what it has read must be what was judged here.
        again = [_read(section, path) for path in files_of(config)]
        if again == [text for text in (cert, key, client_ca) if text]:
            return Material(context, http2, cert, key, client_ca, valid)
    raise ConfigError(f"{section}: its files change while they are read", "start again when they are complete")


def _read(option: str, path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            text = file.read(_MAX_BYTES)
    except OSError as error:
        raise ConfigError(
            f"{option}: {path} cannot be read: {error.strerror or error}", "correct the path, or the file's permissions"
        ) from None
    if not text.strip():
        raise ConfigError(f"{option}: {path} is empty", "write a PEM file there")
    return text


def _certificates(option: str, path: str, text: bytes) -> list[bytes]:
    """Each in DER, in the file's order."""
    found = _CERTIFICATE.findall(text)
    if not found:
        if _KEY.search(text):
            what, remedy = "holds a private key, where a certificate is meant", "look whether cert and key are swapped"
        elif text.startswith(_DER):
            what, remedy = "is no PEM file", f"convert it: openssl x509 -inform der -in {path} -out cert.pem"
        else:
            what, remedy = "holds no certificate", "a PEM file has -----BEGIN CERTIFICATE----- in it"
        raise ConfigError(f"{option}: {path} {what}", remedy)
    try:
        return [ssl.PEM_cert_to_DER_cert(each.decode()) for each in found]
    except ValueError:
        raise ConfigError(f"{option}: {path} holds a damaged certificate", "write the file anew") from None


def _check_key(option: str, path: str, text: bytes) -> None:
    if b"BEGIN ENCRYPTED PRIVATE KEY" in text or b"Proc-Type: 4,ENCRYPTED" in text:
        raise ConfigError(
            f"{option}: {path} is encrypted, and nobody is there to type its passphrase",
            f"write it without one: openssl pkey -in {path} -out key.pem",
        )
    if _KEY.search(text):
        return
    if _CERTIFICATE.search(text):
        what, remedy = "holds a certificate, where its private key is meant", "look whether cert and key are swapped"
    elif text.startswith(_DER):
        what, remedy = "is no PEM file", f"convert it: openssl pkey -inform der -in {path} -out key.pem"
    else:
        what, remedy = "holds no private key", "a PEM file has -----BEGIN PRIVATE KEY----- in it"
    raise ConfigError(f"{option}: {path} {what}", remedy)


def _validity(option: str, path: str, certificate: bytes, now: float) -> Validity:
    try:
        found = validity(certificate)
    except ValueError:
        raise ConfigError(f"{option}: {path} holds a damaged certificate", "write the file anew") from None
    if now >= found.until:
        raise ConfigError(f"{option}: {path} expired at {moment(found.until)}", "put a current certificate there")
    if now < found.since:
        raise ConfigError(
            f"{option}: {path} is not valid before {moment(found.since)}", "wait, or correct this machine's clock"
        )
    return found


def _context(section: str, config: TlsFiles, protocol: str) -> ssl.SSLContext:
    context = SpokenContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[config.min_version]
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([protocol])
    try:
        context.load_cert_chain(config.cert, config.key, password=_no_passphrase)
    except (ssl.SSLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", "") or str(error)
        if reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"{section}.key: {config.key} is not the key of {config.cert}", "write the two that belong together"
            ) from None
        raise ConfigError(f"{section}.cert: {config.cert} and its key cannot be used: {_words(reason)}") from None
    if config.client_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        try:
            context.load_verify_locations(config.client_ca)
        except (ssl.SSLError, OSError) as error:
            reason = _words(getattr(error, "reason", "") or str(error))
            raise ConfigError(f"{section}.client_ca: {config.client_ca} cannot be used: {reason}") from None
    return context


def _no_passphrase() -> str:
    """Otherwise OpenSSL would ask at the terminal."""
    return ""


def _words(reason: str) -> str:
    return reason.replace("_", " ").lower()


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
