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
    body = dict(sorted(request.body.items()))
    if "stream" in body or "stream_options" in body:
        body = {name: body[name] for name in body if name not in _CARRIAGE}
    protocol = request.protocol
    # JSON tells where each part ends: no two requests that differ give the same text.
    text = _encode(
        (
            tenant,
            view,
            request.model,
            request.preferred_provider,
            protocol if protocol == OPENAI or not request.stream else f"{protocol} stream",
            sorted(request.required_capabilities) if request.required_capabilities else (),
            body,
            # A door without a JSON body: without its messages every request would be the same.
            None if "messages" in body else request.messages,
        )
    )
    return blake2b(text, digest_size=KEY_BYTES).digest()
