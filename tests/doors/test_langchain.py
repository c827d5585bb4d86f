"""LangChain's own integration tests for chat models, through the gateway: its OpenAI and its Anthropic client.

Behind the gateway stands a provider of chat completions (tests/scripted_model.py), so the second is translated on the
way there and back.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_openai import ChatOpenAI
from langchain_tests.integration_tests import ChatModelIntegrationTests

from gateway import config_for, fixture_provider
from model_gateway.app import App
from scripted_model import scripted
from upstream import FixtureUpstream

pytestmark = [
    # The clients keep their connections between tests, and so the event loop.
    pytest.mark.asyncio(loop_scope="module"),
    # What the clients themselves warn of: files without a name, old Pydantic, parsed answers that Pydantic serialises.
    pytest.mark.filterwarnings("ignore:OpenAI may require a filename", "ignore:Received a Pydantic BaseModel V1"),
    pytest.mark.filterwarnings("ignore:LANGCHAIN_TESTS_USER_AGENT", "ignore:Pydantic serializer warnings"),
]
pytestmark = [
    # What the clients themselves warn of: files without a name, old Pydantic, parsed answers that Pydantic serialises.
    pytest.mark.filterwarnings("ignore:OpenAI may require a filename", "ignore:Received a Pydantic BaseModel V1"),
    pytest.mark.filterwarnings("ignore:LANGCHAIN_TESTS_USER_AGENT", "ignore:Pydantic serializer warnings"),
    pytest.mark.filterwarnings("ignore:Benchmark fixture was not used"),
]
_timeouts = itertools.count(20_000)
MODEL, OTHER_MODEL = "fixture-model", "another-model"
CAPABILITIES = ("tools", "vision", "audio", "files", "json_schema")
# The smallest of each kind, in place of what the tests would download.
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8ffff3f0005fe02fe0def46b8"
    "0000000049454e44ae426082"
)
FILES = {".png": PNG, ".pdf": b"%PDF-1.4\n%%EOF\n", ".wav": b"RIFF$\0\0\0WAVEfmt "}


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A gateway and its provider in a thread of their own: the tests are synchronous and block."""
    started, stop, ports = threading.Event(), threading.Event(), list[int]()

    async def serve() -> None:
        options = {"supported_models": (MODEL, OTHER_MODEL), "capabilities": CAPABILITIES}
        async with FixtureUpstream(scripted) as upstream:
            provider = fixture_provider(upstream.url, **options)
            async with App(config_for(tmp_path_factory.mktemp("gateway"), {"fixture": provider})) as app:
                ports.append(app.http_port)
                started.set()
                await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(30)
    yield ports[0]
    stop.set()
    thread.join()
    with warnings.catch_warnings():
        # The clients leave their connections open, on event loops that are gone.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(autouse=True)
def downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves this machine."""

    def get(url: str, **options: Any) -> httpx.Response:
        return httpx.Response(200, content=FILES[Path(url).suffix], request=httpx.Request("GET", url))

    monkeypatch.setattr(httpx, "get", get)


class Through(ChatModelIntegrationTests):
    """What both clients can do."""

    @pytest.fixture(autouse=True)
    def _port(self, port: int) -> None:
        self.port = port

    @pytest.fixture
    def model(self, port: int, request: Any) -> BaseChatModel:
        return self.chat_model_class(**{**self.standard_chat_model_params, **self.chat_model_params})

    @property
    def standard_chat_model_params(self) -> dict[str, Any]:
        # The clients keep connections by these values, and each test has an event loop of its own.
        timeout_s = next(_timeouts) / 1000
        return {"temperature": 0, "max_tokens": 100, "timeout": timeout_s, "max_retries": 0}

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_pdf_inputs(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return OTHER_MODEL


class TestChatOpenAI(Through):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatOpenAI

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "model": MODEL,
            "base_url": f"http://127.0.0.1:{self.port}/v1",
            "api_key": "unused",
            "stream_usage": True,
        }

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_audio_inputs(self) -> bool:
        return True


class TestChatAnthropic(Through):
    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatAnthropic

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": MODEL, "base_url": f"http://127.0.0.1:{self.port}", "api_key": "unused"}

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_pdf_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True


class TestChatOpenAIResponses(TestChatOpenAI):
    """The same client over /v1/responses."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "use_responses_api": True}

    @property
    def supports_audio_inputs(self) -> bool:
        return False
