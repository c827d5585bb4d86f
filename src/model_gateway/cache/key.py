"""Which requests may share an answer: decides the cache key, never stores anything.

Two requests share a key only if the tenant, the schema, the model asked for, the routing wishes and every field of the
body are byte for byte the same. How the answer is carried (`stream`, `stream_options`) does not count in OpenAI's
schema, where each form can be made from the other without loss; in the others it does.
"""

from __future__ import annotations

from hashlib import blake2b

import msgspec

from model_gateway.domain.chat import OPENAI, ChatRequest

KEY_BYTES = 16
_CARRIAGE = frozenset({"stream", "stream_options"})
_encode = msgspec.json.Encoder().encode


def cache_key(tenant: str, request: ChatRequest, view: bytes = b"") -> bytes:
    """The key of `request`, KEY_BYTES long. `user` and every field unknown to us count; labels do not.

    `view`: the fingerprint of what the caller may be routed to. It shapes the answer, and keeps it from whoever may not
    use the model that gave it.
    """
    body = request.body
    parts: list[bytes | msgspec.Raw] = [
        tenant.encode(),
        view,
        request.model.encode(),
        request.preferred_provider.encode(),
        (
            request.protocol if request.protocol == OPENAI or not request.stream else f"{request.protocol} stream"
        ).encode(),
        ",".join(sorted(request.required_capabilities)).encode() if request.required_capabilities else b"",
    ]
    for name in sorted(body):
        if name not in _CARRIAGE:
            parts.append(name.encode())
            parts.append(body[name])
    if "messages" not in body:  # a door without a JSON body: without its messages every request would be the same
        parts.append(_encode(request.messages))
    # The lengths come first and end in ";": no two lists of parts give the same bytes.
    lengths = ",".join([str(len(part)) for part in parts])
    return blake2b(b"".join([lengths.encode(), b";", *parts]), digest_size=KEY_BYTES).digest()
