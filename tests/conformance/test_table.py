"""The table is whole: a protocol or a fixture that it does not name proves nothing."""

from __future__ import annotations

from conformance.table import FIXTURES, STATUSES, TABLE
from model_gateway.config.schema import ProviderConfig
from model_gateway.providers.adapters import PROTOCOL_OF, adapter_of
from model_gateway.wire.needs import native
from model_gateway.wire.protocols import PROTOCOLS

NEEDED = {"reply.json", "schema_reply.json", "tools_reply.json", "stream.sse", "tools_stream.sse"}


def test_every_registered_protocol_has_an_entry() -> None:
    assert TABLE.keys() == PROTOCOLS.keys(), "add it to tests/conformance/table.py, with fixtures"
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and native(name) in protocol.features


def test_every_kind_of_provider_speaks_a_protocol_of_the_table() -> None:
    for kind, protocol in PROTOCOL_OF.items():
        if protocol in PROTOCOLS:
            adapter = adapter_of(ProviderConfig.model_validate({"kind": kind, "base_url": "http://x"}))
            assert type(adapter) is type(TABLE[protocol].adapter), kind


def test_every_fixture_has_its_facts_and_its_origin() -> None:
    for protocol, entry in TABLE.items():
        named = {*entry.replies, *entry.streams, *entry.failing, *entry.elsewhere}
        assert named >= NEEDED, protocol
        named |= {f"error_{status.code}.json" for status in STATUSES if protocol in status.recorded}
        assert {path.name for path in (FIXTURES / protocol).iterdir()} == named | {"ORIGIN.md"}, protocol


def test_the_fixtures_hold_every_case() -> None:
    """Parallel calls, counts of the cache and of thoughts: where none shows them, none proves them."""
    for protocol, entry in TABLE.items():
        answers = [*entry.replies.values(), *entry.streams.values()]
        usages = [answer.usage for answer in answers if answer.usage is not None]
        assert any(usage.cached_input_tokens for usage in usages), protocol
        assert any(usage.reasoning_tokens for usage in usages), protocol
        called = [sum(hasattr(part, "arguments") for part in answer.parts) for answer in entry.streams.values()]
        assert max(called) > 1, protocol
