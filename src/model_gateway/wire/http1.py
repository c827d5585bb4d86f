"""HTTP/1.1's header names as they come over the wire, read without decoding each of them anew. No behaviour."""

from __future__ import annotations

from typing import Final

_USUAL: Final = (  # noqa: SIM905  one a line would be a page
    "Accept Accept-Encoding Accept-Language Anthropic-Version Authorization Cache-Control Connection Content-Length "
    "Content-Type Date Host Server Strict-Transport-Security Traceparent Transfer-Encoding User-Agent Vary Via "
    "X-Api-Key X-Forwarded-For X-Forwarded-Proto X-Real-IP X-Request-ID X-Stainless-Arch X-Stainless-Async "
    "X-Stainless-Lang X-Stainless-OS X-Stainless-Package-Version X-Stainless-Raw-Response X-Stainless-Read-Timeout "
    "X-Stainless-Retry-Count X-Stainless-Runtime X-Stainless-Runtime-Version X-Stainless-Timeout"
).split()

NAMES: Final = {spelt.encode(): name.lower() for name in _USUAL for spelt in (name, name.lower())}
"""Those that clients, their libraries and proxies send, by their usual spellings; lower-case. Others may come."""
