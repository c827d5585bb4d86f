"""What a request needs beyond text, as capabilities: routing asks only targets that have them all. Pure.

Two kinds. A model's abilities (`tools`, `vision`, `audio`, `files`, `json_schema`) come from its provider's
`capabilities`; a schema's features (`seed`, `penalties`, `top_k`, `protocol:<name>`) from `WireProtocol.features`. A
field that only the caller's own schema knows needs a provider that speaks that schema: nothing is dropped in between.
"""

from __future__ import annotations

from collections.abc import Iterable

from model_gateway.domain.conversation import Conversation, Media, Part, ToolResult

TOOLS = "tools"
VISION = "vision"
AUDIO = "audio"
FILES = "files"
JSON_SCHEMA = "json_schema"
SEED = "seed"
PENALTIES = "penalties"
TOP_K = "top_k"

_MEDIA = {"image": VISION, "audio": AUDIO, "file": FILES}


def native(protocol: str) -> str:
    """The capability of speaking `protocol` itself."""
    return f"protocol:{protocol}"


def needs_of(conversation: Conversation | None, protocol: str, native_fields: Iterable[str] = ()) -> frozenset[str]:
    """`native_fields`: names of fields in the caller's body that no Conversation can hold."""
    if conversation is None:
        return frozenset((native(protocol),))
    needs: set[str] = {native(protocol)} if any(True for _ in native_fields) else set()
    if conversation.tools:
        needs.add(TOOLS)
    if conversation.response_format is not None and conversation.response_format.kind == "schema":
        needs.add(JSON_SCHEMA)
    if conversation.seed is not None:
        needs.add(SEED)
    if conversation.frequency_penalty or conversation.presence_penalty:
        needs.add(PENALTIES)
    if conversation.top_k is not None:
        needs.add(TOP_K)
    for turn in conversation.turns:
        needs.update(_media_in(turn.parts))
    return frozenset(needs)


def _media_in(parts: Iterable[Part]) -> Iterable[str]:
    for part in parts:
        if isinstance(part, Media):
            yield _MEDIA[part.kind]
        elif isinstance(part, ToolResult):
            yield from _media_in(part.parts)
