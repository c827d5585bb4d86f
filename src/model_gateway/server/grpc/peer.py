"""What a call's metadata and its connection's certificate say of its caller. Decides nothing about a request."""

from __future__ import annotations

from model_gateway.domain.caller import Certified, Credential
from model_gateway.server.grpc.http2.calls import Call


def credential_of(call: Call) -> Credential:
    """The caller's key (`authorization: Bearer …`, or `x-api-key`), and what its certificate says where it has one."""
    fields, identities = call.metadata, call.connection.identities
    scheme, _, rest = fields.get("authorization", "").partition(" ")
    key = (rest.strip() if scheme.lower() == "bearer" else "") or fields.get("x-api-key", "")
    return Certified(identities, key) if identities else key
