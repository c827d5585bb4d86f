"""docs/api/openapi.yaml is true: its paths are the server's, its examples are accepted, replies are as it says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import yaml
from pages import ROOT

from gateway import config_for, fixture_provider
from model_gateway.app import App
from model_gateway.control.admin import Admin
from upstream import FixtureUpstream, Seen, events, fixture, whole

DOCUMENT: dict[str, Any] = yaml.safe_load((ROOT / "docs/api/openapi.yaml").read_text(encoding="utf-8"))
KINDS: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
}


class Operation(NamedTuple):
    method: str
    path: str
    told: dict[str, Any]
    control: bool


def operations() -> Iterator[Operation]:
    for path, item in DOCUMENT["paths"].items():
        for method in ("get", "post", "delete"):
            if method in item:
                yield Operation(method.upper(), path, item[method], "servers" in item)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in schema:
        found: Any = DOCUMENT
        for name in schema["$ref"].removeprefix("#/").split("/"):
            found = found[name]
        schema = found
    return schema


def complaints(value: Any, schema: dict[str, Any], at: str = "$") -> Iterator[str]:
    """What of the value is not as the schema says, in the words of JSON Schema that the document uses."""
    schema = resolved(schema)
    kind = schema.get("type")
    if kind and (not isinstance(value, KINDS[kind]) or (kind in ("integer", "number") and isinstance(value, bool))):
        yield f"{at}: {value!r} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is none of {schema['enum']}"
    if isinstance(value, dict):
        properties: dict[str, Any] = schema.get("properties", {})
        yield from (f"{at}: {name} is missing" for name in schema.get("required", ()) if name not in value)
        if schema.get("additionalProperties") is False:
            yield from (f"{at}: {name} is not known" for name in value if name not in properties)
        for name, inner in properties.items():
            if name in value:
                yield from complaints(value[name], inner, f"{at}.{name}")
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield from complaints(item, schema["items"], f"{at}[{index}]")


def provider(seen: Seen, writer: asyncio.StreamWriter) -> Any:
    if seen.path.endswith("/embeddings"):
        return whole(fixture("embeddings_reply.json"))(seen, writer)
    if seen.json.get("stream"):
        return events(fixture("stream.sse"))(seen, writer)
    return whole(fixture("reply.json"))(seen, writer)


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[App]:
    async with FixtureUpstream(provider) as upstream:
        offered = fixture_provider(
            upstream.url, supported_models=("fixture-model",), embedding_models=("fixture-embedding",)
        )
        async with App(config_for(tmp_path, {"fixture": offered})) as running:
            yield running


@pytest.fixture
async def client(app: App, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    token = (tmp_path / "admin.token").read_text().strip()
    async with httpx.AsyncClient(timeout=30, headers={"x-admin": f"Bearer {token}"}) as session:
        yield session


async def call(client: httpx.AsyncClient, app: App, operation: Operation, **more: Any) -> httpx.Response:
    """As its example says."""
    path, query = operation.path, dict[str, str]()
    for parameter in map(resolved, operation.told.get("parameters", ())):
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", parameter["example"])
        elif parameter["in"] == "query" and "example" in parameter:
            query[parameter["name"]] = parameter["example"]
    body = operation.told.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    port = app.control_port if operation.control else app.http_port
    headers = {"Authorization": client.headers["x-admin"]} if operation.path.startswith("/admin") else {}
    if body is not None:
        more.setdefault("json", body)
    url = f"http://127.0.0.1:{port}{path}"
    return await client.request(operation.method, url, params=query, headers=headers | more.pop("headers", {}), **more)


def judge(operation: Operation, reply: httpx.Response) -> None:
    """The reply is one that the document tells of."""
    responses = operation.told["responses"]
    told = responses.get(str(reply.status_code)) or responses.get("default")
    assert told is not None, f"{operation.method} {operation.path}: {reply.status_code} {reply.text[:300]}"
    kind = reply.headers["content-type"].partition(";")[0]
    assert kind in told["content"], f"{operation.path}: {kind}"
    if kind == "application/json":
        assert list(complaints(reply.json(), told["content"][kind]["schema"])) == [], operation.path


def test_every_example_is_as_its_schema_says() -> None:
    checked = 0
    for operation in operations():
        for content in operation.told.get("requestBody", {}).get("content", {}).values():
            assert list(complaints(content["example"], content["schema"])) == [], operation.path
            checked += 1
    assert checked >= 10


def test_every_reference_leads_somewhere() -> None:
    for reference in re.findall(r'"\$ref": "(#[^"]+)"', json.dumps(DOCUMENT)):
        assert resolved({"$ref": reference})


async def test_the_paths_are_those_that_the_gateway_knows(app: App, client: httpx.AsyncClient) -> None:
    told = {f"{each.method} {each.path}" for each in operations()}
    data = (await client.get(f"http://127.0.0.1:{app.http_port}/")).json()["endpoints"]
    control = (await client.get(f"http://127.0.0.1:{app.control_port}/")).json()
    known = {*data, *(f"GET {path}" for path in control["paths"]), *control["admin"]}
    assert known - told == set()
    mounted = object.__new__(Admin).mount()
    routes: list[Any] = list(mounted.routes)
    real = {
        f"{method} /admin/v1{route.path}" for route in routes for method in (route.methods or ()) if method != "HEAD"
    }
    assert {each for each in told if " /admin" in each} == real


async def test_every_example_is_answered_as_the_document_says(app: App, client: httpx.AsyncClient) -> None:
    answered = 0
    question = {"model": "auto", "messages": [{"role": "user", "content": "What is rain?"}]}
    url = f"http://127.0.0.1:{app.http_port}/v1/chat/completions"
    await client.post(url, json=question, headers={"x-request-id": "order-1234"})  # what the feedback is about
    for operation in operations():
        reply = await call(client, app, operation)
        # This gateway was started without a file: there is nothing to reload, and it says so.
        expected = (422,) if operation.path.endswith("/reload") else (200, 201)
        assert reply.status_code in expected, f"{operation.method} {operation.path}: {reply.status_code} {reply.text}"
        judge(operation, reply)
        answered += 1
    assert answered == len(list(operations()))


async def test_details_are_as_told(app: App, client: httpx.AsyncClient) -> None:
    for operation in operations():
        if operation.path.endswith(("/chat/completions", "/responses", "/messages", ":generateContent")):
            reply = await call(client, app, operation, headers={"x-gateway-details": "1"})
            assert "gateway" in reply.json()
            judge(operation, reply)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"model": 5}', b"\xff", b'{"name": "\\ud800", "x": 1}'])
async def test_nonsense_is_refused_in_the_form_that_is_told(app: App, client: httpx.AsyncClient, body: bytes) -> None:
    for operation in operations():
        if operation.method == "POST" and not operation.path.endswith(("/reload", "/rotate")):
            reply = await call(client, app, operation, content=body, json=None)
            assert 400 <= reply.status_code < 500, f"{operation.path} {body!r}: {reply.status_code} {reply.text}"
            judge(operation, reply)


async def test_without_the_token_the_admin_api_refuses(app: App, client: httpx.AsyncClient) -> None:
    for operation in operations():
        if operation.path.startswith("/admin"):
            reply = await call(client, app, operation, headers={"Authorization": "Bearer wrong"})
            assert reply.status_code == 401
            judge(operation, reply)
