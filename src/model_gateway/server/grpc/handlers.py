"""A service's methods by path, as its descriptor tells them. Decides nothing about a call."""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

import msgspec
from google.protobuf.message_factory import GetMessageClass


class Handler(msgspec.Struct, frozen=True):
    """One method. `call(request or requests, context)` returns a reply, or yields several, or `writes` them itself."""

    call: Callable[..., Any]
    request_deserializer: Callable[[bytes], Any]
    response_serializer: Callable[[Any], bytes]
    request_streaming: bool
    response_streaming: bool
    writes: bool


def handlers_of(service: Any, servicer: object) -> dict[str, Handler]:
    """Those that `servicer` has a method for. `service`: its descriptor, of which protobuf has two types."""
    return {
        f"/{service.full_name}/{method.name}": Handler(
            call,
            GetMessageClass(method.input_type).FromString,
            GetMessageClass(method.output_type).SerializeToString,
            method.client_streaming,
            method.server_streaming,
            iscoroutinefunction(call) and method.server_streaming,
        )
        for method in service.methods
        if (call := getattr(servicer, method.name, None)) is not None
    }
