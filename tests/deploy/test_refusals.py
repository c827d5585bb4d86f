"""What the chart refuses, and whether it says what to do."""

from __future__ import annotations

import json
import re

import pytest
from charts import CHART, helm, refusal

from model_gateway.config.schema import GatewayConfig

SQLITE = "postgresql.enabled=false"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (SQLITE, "3 replicas without PostgreSQL: each would keep a ledger.+postgresql.enabled=true.+replicas=1"),
        (f"{SQLITE},replicas=1,autoscaling.enabled=true", "10 replicas without PostgreSQL"),
        ("secrets.source=none", "replicas need the same secret that seals callers' keys"),
        ("secrets.entries.keySecret=", "set secrets.entries.keySecret"),
        ("replicas=1,secrets.source=none", "postgresql.enabled needs a Secret"),
        ("redis.enabled=true,secrets.entries.redis=", "set secrets.entries.redis"),
        ("state.persistent=true", "state.persistent is for one replica, and there are 3"),
        ("config.server.port=1", "config.server.port is the chart's to write: set ports.grpc"),
        ("config.server.host=127.0.0.1", "config.server.host is the chart's to write: set address"),
        ("config.server.httpPort=1", "config.server.http_port is the chart's to write: set ports.http"),
        ("config.server.controlTls.clientCa=/x", "config.server.control_tls is the chart's to write"),
        ("config.server.tls.cert=/x", "config.server.tls.cert is the chart's to write: set tls.enabled"),
        ("config.ledger.path=/x", "config.ledger.path is the chart's to write"),
        ("config.environment=development", "config.environment is the chart's to write: set environment"),
        ("config.server=1", "config.server must be a section"),
        ("tls.enabled=true", "tls.enabled needs a certificate: set tls.secretName, or tls.certManager.enabled"),
        ("tls.clientCa.secretName=ca", "tls.clientCa needs tls.enabled"),
        ("tls.enabled=true,tls.certManager.enabled=true", "tls.certManager.issuer.name"),
        ("tls.enabled=true,tls.secretName=t,probes.grpcReadiness=true", "the kubelet speaks no TLS to gRPC"),
        ("secrets.source=values", "secrets.values.KEY_SECRET is missing"),
        ("secrets.source=external", "secrets.external.store.name"),
        ("secrets.source=external,secrets.external.store.name=v", "secrets.external brings nothing"),
        ("autoscaling.enabled=true,autoscaling.maxReplicas=2", r"minReplicas \(3\) is more than"),
        ("autoscaling.enabled=true,autoscaling.cpu=0,autoscaling.inFlight=0", "autoscaling looks at nothing"),
        ("gatewayApi.enabled=true", "gatewayApi.parentRefs: name the Gateway"),
        ("ingress.grpc.enabled=true", "ingress.grpc.host is needed"),
        # The schema's.
        ("replica=5", "additional properties 'replica' not allowed"),
        ("image.repo=x", "at '/image': additional properties 'repo' not allowed"),
        ("resources.request.cpu=1", "at '/resources': additional properties 'request' not allowed"),
        ("antiAffinity=always", "value must be one of 'soft', 'hard', 'none'"),
        ("replicas=three", "got string, want integer"),
        ("config.budget.limits=1", "value must be one of .*'budgets'"),
        ("ports.grpc=70000", "maximum: got 70,?000, want 65,?535"),
        ("image.digest=sha256:abc", "at '/image/digest'.+does not match pattern"),
    ],
)  # fmt: skip
def test_is_refused_with_the_remedy(options: str, said: str) -> None:
    assert re.search(said, " ".join(refusal("--set", options).split()))


def test_an_older_kubernetes_is_refused() -> None:
    assert "chart requires kubeVersion: >=1.30" in refusal("--kube-version", "1.29.9")


@pytest.mark.parametrize(
    "options", [f"{SQLITE},state.allowSeparate=true,secrets.source=none", f"{SQLITE},replicas=1,secrets.source=none"]
)
def test_what_is_asked_for_by_name_is_given(options: str) -> None:
    done = helm("template", "gw", str(CHART), "--set", options)
    assert done.returncode == 0, done.stderr


def test_every_section_of_the_configuration_may_be_set() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    sections = {name for option, info in GatewayConfig.model_fields.items() for name in (option, info.alias or option)}
    assert set(schema["properties"]["config"]["propertyNames"]["enum"]) == sections


def test_what_is_told_after_an_installation() -> None:
    """`--dry-run=client` asks no cluster."""
    done = helm("install", "gw", str(CHART), "-n", "prod", "--dry-run=client", "--set", "redis.enabled=true")
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    for told in ("Pods wait for the Secret gw-model-gateway", "DATABASE_URL", "REDIS_URL", "helm test -n prod gw"):
        assert told in notes
