"""TLS at the gRPC door: which certificate it shows, and what a call's certificate and metadata say of its caller.

Decides nothing about a request. gRPC cannot be told to speak only TLS 1.3: calls over an older one are refused here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc

from model_gateway.domain.caller import Certified, Credential
from model_gateway.domain.errors import Unauthenticated
from model_gateway.tls.door import TlsDoor
from model_gateway.tls.identity import from_properties
from model_gateway.tls.material import Material

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]

_NEWEST = b"TLSv1.3"


def server_credentials(door: TlsDoor) -> grpc.ServerCredentials:
    """gRPC asks before each handshake whether there is another certificate."""
    used = door.current

    def renewed() -> grpc.ServerCertificateConfiguration | None:  # on gRPC's own threads
        nonlocal used
        found = door.current
        if found is used:
            return None
        used = found
        return _configuration(found)

    fetch: Any = renewed  # its None, for no change, is documented and not in grpc's types
    return grpc.dynamic_ssl_server_credentials(_configuration(used), fetch, bool(door.config.client_ca))


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    pair = (material.key, material.cert)
    return grpc.ssl_server_certificate_configuration([pair], material.client_ca or None)


def reader_of(min_version: str, identity: str) -> Callable[[Context], Credential]:
    """What reads the credential of a call over TLS; options as in `server.tls`."""

    def read(context: Context) -> Credential:
        properties = context.auth_context()
        if min_version == "1.3" and _NEWEST not in properties.get("ssl_tls_version", ()):
            raise Unauthenticated("this gateway speaks TLS 1.3 only (server.tls.min_version)")
        key = credential_of(context)
        identities = () if identity == "none" else from_properties(properties, identity)
        return Certified(identities, key) if identities else key

    return read


def credential_of(context: Context) -> str:
    """The caller's key: `authorization: Bearer …`, or `x-api-key`."""
    bearer = api_key = ""
    for name, value in context.invocation_metadata() or ():
        if name == "authorization" and isinstance(value, str):
            scheme, _, rest = value.partition(" ")
            if scheme.lower() == "bearer":
                bearer = rest.strip()
        elif name == "x-api-key" and isinstance(value, str):
            api_key = value
    return bearer or api_key
