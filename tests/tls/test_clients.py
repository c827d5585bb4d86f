"""Client certificates: who gets in, and as whom."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import httpx
import openai
import pytest
from cryptography import x509
from pydantic import SecretStr

from certificates import Authority, Pair
from gateway import QUESTION
from model_gateway.app import App
from model_gateway.config.schema import CallerKey, LedgerConfig, LimitsConfig
from model_gateway.pb import gateway_pb2 as pb
from model_gateway.pb import gateway_pb2_grpc
from tls.gateways import BODY, records_of, start

SPIFFE = "spiffe://example.org/research/notebooks"
SPOOFED = {
    "x-forwarded-client-cert": f"URI={SPIFFE}",
    "x-client-identity": SPIFFE,
    "x-ssl-client-s-dn": "CN=notebooks",
    "identities": SPIFFE,
}


def named(uri: str = SPIFFE) -> tuple[x509.GeneralName, ...]:
    return (
        x509.DNSName("notebooks.internal"),
        x509.UniformResourceIdentifier(uri),
        x509.RFC822Name("notebooks@example.org"),
    )


async def mutual(
    stack: AsyncExitStack, folder: Path, authority: Authority, sections: dict[str, Any] | None = None, **tls: Any
) -> App:
    cert, key = authority.issue().write(folder)
    files = {"cert": cert, "key": key, "client_ca": authority.write(folder)}
    return await start(stack, folder, authority, sections, tls={**files, **tls}, control_tls=files)


async def over_http(app: App, authority: Authority, folder: Path, client: Pair | None, **headers: str) -> int:
    files = client.write(folder, "client") if client is not None else None
    async with authority.http(app.http_port, files) as http:
        return (await http.post("/v1/chat/completions", json=BODY, headers=headers)).status_code


async def over_grpc(app: App, authority: Authority, client: Pair | None, **metadata: str) -> grpc.StatusCode:
    async with authority.channel(app.grpc_port, client) as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        sent = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
        try:
            await stub.ProcessQuery(pb.ModelRequest(query=QUESTION), metadata=sent, timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("who", ["none", "another authority's", "expired", "not yet valid", "right"])
async def test_only_a_certificate_of_the_authority_enters(stack: AsyncExitStack, tmp_path: Path, who: str) -> None:
    authority = Authority()
    app = await mutual(stack, tmp_path, authority)
    client = {
        "none": None,
        "another authority's": Authority().issue("client", named()),  # of the same name
        "expired": authority.issue("client", named(), until_s=-10),
        "not yet valid": authority.issue("client", named(), since_s=3600),
        "right": authority.issue("client", named()),
    }[who]
    if who == "right":
        assert await over_http(app, authority, tmp_path, client) == 200
        assert await over_grpc(app, authority, client) is grpc.StatusCode.OK
        async with authority.http(app.control_port, client and client.write(tmp_path, "client")) as control:
            assert (await control.get("/health/live")).status_code == 200
        return
    for port in (app.http_port, app.control_port):
        context = ssl.create_default_context(cadata=authority.pem.decode())
        context.maximum_version = ssl.TLSVersion.TLSv1_2  # the client learns it in the handshake already
        if client is not None:
            context.load_cert_chain(*client.write(tmp_path, "client"))
        with pytest.raises(ssl.SSLError, match=r"(?i)alert"):
            await asyncio.open_connection("127.0.0.1", port, ssl=context)
    with pytest.raises(httpx.TransportError):
        await over_http(app, authority, tmp_path, client)
    assert await over_grpc(app, authority, client) is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("kind", "certificate"),
    [
        ("uri", SPIFFE),
        ("uri", "spiffe://example.org/research/*"),
        ("dns", "notebooks.internal"),
        ("email", "notebooks@example.org"),
        ("common_name", "notebooks"),
    ],
)
async def test_a_certificate_is_a_key(stack: AsyncExitStack, tmp_path: Path, kind: str, certificate: str) -> None:
    authority = Authority()
    entry = CallerKey(name="research", certificate=certificate, tenant="science", requests_per_minute=100)
    app = await mutual(stack, tmp_path, authority, {"keys": (entry,)}, client_identity=kind)
    records = records_of(app)
    client = authority.issue("notebooks", named())
    assert await over_http(app, authority, tmp_path, client) == 200
    assert await over_grpc(app, authority, client) is grpc.StatusCode.OK
    async with authority.channel(app.grpc_port, client) as channel:
        stub = gateway_pb2_grpc.ModelGatewayServiceStub(channel)
        assert (await stub.GetModelCapabilities(pb.Empty())).providers
    assert [(record.key_name, record.tenant, record.door) for record in records] == [
        ("research", "science", "http"),
        ("research", "science", "grpc"),
    ]
    quota = app.gateway.quota(records[0])
    assert quota is not None and quota.requests is not None and quota.requests.remaining == 98

    other = authority.issue("others", (x509.UniformResourceIdentifier("spiffe://example.org/others"),))
    assert await over_http(app, authority, tmp_path, other) == 401
    assert await over_http(app, authority, tmp_path, other, **SPOOFED) == 401
    assert await over_grpc(app, authority, other) is grpc.StatusCode.UNAUTHENTICATED
    assert await over_grpc(app, authority, other, **SPOOFED) is grpc.StatusCode.UNAUTHENTICATED


async def test_limits_of_its_key_hold(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    entry = CallerKey(name="research", certificate=SPIFFE, requests_per_minute=2, doors=("http",))
    app = await mutual(stack, tmp_path, authority, {"keys": (entry,)}, client_identity="uri")
    client = authority.issue("notebooks", named())
    assert await over_grpc(app, authority, client) is grpc.StatusCode.PERMISSION_DENIED
    assert [await over_http(app, authority, tmp_path, client) for _ in range(3)] == [200, 200, 429]


async def test_it_decides_over_any_key_that_is_sent(stack: AsyncExitStack, tmp_path: Path) -> None:
    """The vendors' SDKs cannot send none; and a key that was stolen opens nothing more to who stole it."""
    authority = Authority()
    keys = (
        CallerKey(name="research", certificate=SPIFFE),
        CallerKey(name="boss", key=SecretStr("the-boss")),
    )
    app = await mutual(stack, tmp_path, authority, {"keys": keys}, client_identity="uri")
    records = records_of(app)
    client = authority.issue("notebooks", named())
    context = ssl.create_default_context(cadata=authority.pem.decode())
    context.load_cert_chain(*client.write(tmp_path, "client"))
    for sent in ("unused", "the-boss"):
        http = openai.DefaultAsyncHttpxClient(verify=context)
        url = f"https://127.0.0.1:{app.http_port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=sent, max_retries=0, http_client=http) as sdk:
            await sdk.chat.completions.create(model="auto", messages=BODY["messages"])
    assert await over_grpc(app, authority, client, authorization="Bearer the-boss") is grpc.StatusCode.OK
    assert {record.key_name for record in records} == {"research"}

    unnamed = authority.issue("others", (x509.DNSName("others.internal"),))
    assert await over_http(app, authority, tmp_path, unnamed, authorization="Bearer the-boss") == 200
    assert await over_grpc(app, authority, unnamed, x_api_key="the-boss") is grpc.StatusCode.OK
    assert [record.key_name for record in records[-2:]] == ["boss", "boss"]


async def test_certificates_that_no_key_names_may_be_admitted(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    sections = {"limits": LimitsConfig(requests_per_minute=2)}
    app = await mutual(stack, tmp_path, authority, sections, client_identity="common_name", unlisted_identity="admit")
    records = records_of(app)
    for name in ("one", "two"):
        client = authority.issue(name, named())
        statuses = [await over_http(app, authority, tmp_path, client) for _ in range(3)]
        assert statuses == [200, 200, 429], "each has limits of its own"
        assert await over_grpc(app, authority, client) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert {record.key_name for record in records} == {"certificate:one", "certificate:two"}


async def test_require_keys_is_met_by_a_certificate(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    cert, key = authority.issue().write(tmp_path)
    tls = {"cert": cert, "key": key, "client_ca": authority.write(tmp_path), "client_identity": "dns"}
    app = await start(stack, tmp_path, authority, tls={**tls, "unlisted_identity": "admit"}, require_keys=True)
    assert await over_http(app, authority, tmp_path, authority.issue("a", named())) == 200
    assert await over_grpc(app, authority, authority.issue("a", named())) is grpc.StatusCode.OK
    without = authority.issue("a", ())
    assert await over_http(app, authority, tmp_path, without) == 401
    assert await over_grpc(app, authority, without) is grpc.StatusCode.UNAUTHENTICATED


async def test_the_audit_log_names_the_certificate(stack: AsyncExitStack, tmp_path: Path) -> None:
    authority = Authority()
    app = await mutual(stack, tmp_path, authority, {"ledger": LedgerConfig(path=str(tmp_path / "ledger.db"))})
    files = authority.issue("ada@ops", named()).write(tmp_path, "client")
    token = (tmp_path / "admin.token").read_text().strip()
    async with authority.http(app.control_port, files) as control:
        assert (await control.get("/admin/v1/keys", headers={"Authorization": "Bearer x"})).status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert (await control.post("/admin/v1/keys", json={"name": "k"}, headers=headers)).status_code == 201
        told = (await control.get("/admin/v1/audit", headers=headers)).json()["audit"]
    assert [(each["action"], each["actor"]) for each in told] == [
        ("key.created", "admin token, certificate ada@ops"),
        ("admin.refused", "no valid token, certificate ada@ops"),
    ]
