"""Rules over the options of TLS and of callers by certificate. Part of checks.py, whose rules hold here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from model_gateway.config.document import Keys
from model_gateway.config.schema import GatewayConfig
from model_gateway.config.tls import DoorTls, TlsFiles

_REFERENCES: Final = ("file:", "env:")


def certificate_problems(config: GatewayConfig) -> Iterator[tuple[Keys, str]]:
    for option, files in (("tls", config.server.tls), ("control_tls", config.server.control_tls)):
        yield from ((("server", option, *keys), text) for keys, text in _files(files))
    yield from ((("server", "tls", *keys), text) for keys, text in _identity(config.server.tls, config))
    holders: dict[str, str] = {}
    for at, key in enumerate(config.keys):
        if not key.certificate:
            continue
        if config.server.tls.client_identity == "none":
            yield ("keys", at, "certificate"), "set server.tls.client_identity: which of a certificate's names it is"
        if holders.setdefault(key.certificate, key.name) != key.name:
            yield ("keys", at, "certificate"), f"is also that of {holders[key.certificate]!r}"


def _files(files: TlsFiles) -> Iterator[tuple[Keys, str]]:
    paths = {"cert": files.cert, "key": files.key, "client_ca": files.client_ca}
    for option, path in paths.items():
        if path.startswith(_REFERENCES) or "-----BEGIN" in path:
            yield (option,), "must be the path of a PEM file, and nothing else"
    if files.cert and not files.key:
        yield ("key",), "is required where cert is set: the path of the certificate's private key"
    for option in ("key", "client_ca"):
        if paths[option] and not files.cert:
            yield ("cert",), f"is required where {option} is set: the path of the server's certificate"
            return


def _identity(tls: DoorTls, config: GatewayConfig) -> Iterator[tuple[Keys, str]]:
    if tls.client_identity == "none":
        if tls.unlisted_identity == "admit":
            yield ("client_identity",), "must say which of a certificate's names its identity is: uri, dns, email …"
        return
    if not tls.client_ca:
        yield ("client_ca",), "is required where client_identity is set: the path of the authorities' certificates"
    if tls.unlisted_identity == "refuse" and not any(key.certificate for key in config.keys):
        yield (
            ("client_identity",),
            "no key has a `certificate`: set keys[].certificate, or unlisted_identity: admit",
        )
