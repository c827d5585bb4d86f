"""grpc.reflection.v1alpha: which services there are, and their messages, for clients without the contract.

What grpc_reflection answers. It is loaded when somebody asks, since it takes all of grpc along (14 MB).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from typing import Any

SERVICE = "grpc.reflection.v1alpha.ServerReflection"


class Reflection:
    """Named as the protocol wants it. `services`: those that are told."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = tuple(services)
        self._servicer: Any = None

    async def ServerReflectionInfo(  # noqa: N802
        self, requests: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        if self._servicer is None:
            module: Any = await asyncio.to_thread(import_module, "grpc_reflection.v1alpha._async")
            self._servicer = module.ReflectionServicer(self._services)
        async for reply in self._servicer.ServerReflectionInfo(requests, context):
            yield reply
