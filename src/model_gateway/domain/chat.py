"""A chat request, its reply and the pieces of a streamed reply, in the field's common shape (OpenAI's roles and names).

`ChatRequest.body` keeps every field the caller sent, undecoded, so that a provider that speaks the caller's own schema
gets the body back with the fewest changes and nothing is dropped.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from model_gateway.domain.conversation import Conversation, Delta
from model_gateway.domain.route import Factor
from model_gateway.domain.usage import Usage

AUTO_MODEL = "auto"
OPENAI = "openai"


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One part of a message: text, or a medium that only capability routing looks at."""

    type: str
    text: str = ""


class Message(msgspec.Struct, frozen=True, kw_only=True):
    role: str
    content: str | list[Part] | None = None

    def text(self) -> str:
        """The message's text, its parts joined by line breaks."""
        content = self.content
        if isinstance(content, str):
            return content
        if content is None:
            return ""
        return "\n".join(part.text for part in content if part.text)


class ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What every door hands to the pipeline.

    `protocol` names the schema of `body`; a door of another schema than OpenAI's reads its `conversation` as well.
    `output_limit`: ours, in tokens, where a budget needs one and the caller gave none. Units: `budget_nano` nano-USD,
    `timeout_s` seconds. None means "not said". `explain` asks for the score's factors; `embeds` for vectors instead of
    an answer. `session`: the caller's name of the conversation. `logprobs`: ours too: the tokens' log-probabilities are
    wanted, where the provider's schema has them.
    """

    request_id: str
    model: str
    messages: list[Message]
    body: Mapping[str, msgspec.Raw]
    protocol: str = OPENAI
    conversation: Conversation | None = None
    stream: bool = False
    include_usage: bool = False
    max_tokens: int | None = None
    output_limit: int | None = None
    budget_nano: int | None = None
    timeout_s: float | None = None
    preferred_provider: str = ""
    labels: Mapping[str, str] = {}
    required_capabilities: frozenset[str] = frozenset()
    cache_read: bool = True
    cache_write: bool = True
    explain: bool = False
    embeds: bool = False
    idempotency_key: str = ""
    session: str = ""
    logprobs: bool = False

    def query(self) -> str:
        """The text to judge: the last user message."""
        for message in reversed(self.messages):
            if message.role == "user":
                return message.text()
        return self.messages[-1].text() if self.messages else ""


class ChatReply(msgspec.Struct, frozen=True, kw_only=True):
    """A whole answer. `body` is the reply in the schema `protocol`, as the provider sent it.

    `model` as the provider names it. Set once it is stored in the cache: `provider`, and how its question was judged
    (`score`, and `factors` where they were asked for).
    """

    text: str
    finish_reason: str
    usage: Usage | None
    body: bytes
    protocol: str = OPENAI
    model: str = ""
    provider: str = ""
    score: float = -1.0
    factors: tuple[Factor, ...] = ()


class ChatChunk(msgspec.Struct, frozen=True, kw_only=True):
    """One streamed piece. `data` is the JSON of one event in the provider's schema, without framing.

    `deltas` says the same where there is no event (a replay). `text` is what it adds to the first choice; `plain` is
    false where it adds anything but that (a tool call, a second choice); `usage_only` where it holds no choice at all.
    """

    data: bytes
    text: str = ""
    finish_reason: str | None = None
    usage: Usage | None = None
    plain: bool = True
    usage_only: bool = False
    deltas: tuple[Delta, ...] = ()
