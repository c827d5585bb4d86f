"""Options about TLS: certificates, those of clients, who they are. Part of schema.py, whose rules hold here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from model_gateway.config.section import Section


def _version(value: object) -> object:
    """YAML reads 1.3 as a number."""
    return str(value) if isinstance(value, float) else value


class TlsFiles(Section):
    cert: str = Field(
        default="",
        description="PEM file: the server's certificate, then those between it and its authority. Read anew when it "
        "changes. Empty: no TLS.",
    )
    key: str = Field(default="", description="PEM file: the certificate's private key, without a passphrase.")
    client_ca: str = Field(
        default="",
        description="PEM file: authorities. When set, every client needs a certificate of one of them. Empty: none.",
    )
    min_version: Annotated[Literal["1.2", "1.3"], BeforeValidator(_version)] = Field(
        default="1.2", description="The oldest version of TLS that is spoken."
    )


class DoorTls(TlsFiles):
    client_identity: Literal["none", "common_name", "uri", "dns", "email"] = Field(
        default="none",
        description="What of a client's certificate says who it is: its subject's common name or an alternative name "
        "of this kind, which `keys[].certificate` knows. none: only keys do.",
    )
    unlisted_identity: Literal["refuse", "admit"] = Field(
        default="refuse",
        description="Clients whose certificate no key names: refuse those without a key, or admit them under their "
        "identity, with `limits`.",
    )
