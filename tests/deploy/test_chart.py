"""The Helm chart: everything it can make is what Kubernetes and the gateway accept, and hangs together."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts import (
    CHART,
    EXAMPLES,
    SETS,
    VERSIONS,
    Object,
    complaints,
    every,
    gateway_yaml,
    helm,
    one,
    pod_of,
    rendered,
    values_of,
)
from pods import Mounts

from model_gateway.config.changes import AT_START
from model_gateway.config.schema import GatewayConfig
from model_gateway.telemetry.around import Around, CertificateFigures
from model_gateway.telemetry.counts import Counts
from model_gateway.telemetry.families import families
from model_gateway.telemetry.outcome import CALLER_STATUSES


def test_there_are_the_five_examples_and_two_versions_of_kubernetes() -> None:
    assert EXAMPLES == ["autoscaling", "external", "laptop", "mtls", "production"]
    assert [version.stem for version in VERSIONS] == ["1.30.0", "1.37.0"], "run `make .venv/.deploy`"


@pytest.mark.parametrize("values", SETS)
def test_helm_finds_nothing_to_complain_about(values: str) -> None:
    done = helm("lint", "--strict", "--quiet", str(CHART), *values_of(values))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", SETS)
def test_every_object_is_as_its_schema_says(values: str) -> None:
    objects = rendered(values)
    assert len(objects) >= 9
    wrong = {
        f"{version.stem} {each['kind']}": found
        for version in VERSIONS
        for each in objects
        if (found := complaints(each, version))
    }
    assert wrong == {}
    names = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))


def test_the_schemas_would_find_a_mistake() -> None:
    deployment = yaml.safe_load(yaml.safe_dump(one(rendered("default"), "Deployment")))
    deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    route = yaml.safe_load(yaml.safe_dump(one(rendered("autoscaling"), "HTTPRoute")))
    route["spec"]["rules"][0]["timeout"] = "1s"
    for version in VERSIONS:
        assert any("readinesProbe" in text for text in complaints(deployment, version))
        assert any("timeout" in text for text in complaints(route, version))


@pytest.mark.parametrize("values", SETS)
def test_the_gateway_accepts_its_configuration(values: str, tmp_path: Path) -> None:
    """With `config check` itself, its folders where a pod has them."""
    objects = rendered(values)
    mounts = Mounts(tmp_path, objects)
    command = (sys.executable, "-m", "model_gateway.cli", "config", "check", "--config", str(mounts.config))
    done = subprocess.run(command, cwd=mounts.data, env=mounts.environ(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr + gateway_yaml(objects)
    assert "ok: " in done.stdout
    assert values == "laptop" or not done.stderr, "laptop's lets everybody in, which is warned of"


@pytest.mark.parametrize("values", SETS)
def test_no_pod_may_do_more_than_it_must(values: str) -> None:
    for template in pods_of(rendered(values)):
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False, "a Service called control would set CONTROL_PORT"
        security = pod["securityContext"]
        assert security["runAsNonRoot"] is True and security["runAsUser"] == security["fsGroup"] == 10001
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            mounted = {mount["name"]: mount for mount in container.get("volumeMounts", ())}
            assert not any("subPath" in mount for mount in mounted.values()), "would never change"
            assert mounted.keys() <= {volume["name"] for volume in pod["volumes"]}


def test_what_the_guide_asks_for() -> None:
    objects = rendered("default")
    assert one(objects, "Deployment")["spec"]["replicas"] == 3
    (container,) = pod_of(objects)["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"memory": "512Mi", "cpu": "500m"},
        "limits": {"memory": "1Gi", "cpu": "1000m"},
    }
    assert {"name": "GATEWAY_ENV", "value": "production"} in container["env"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "grpc": 50051, "http": 8080, "control": 9090,
    }  # fmt: skip


@pytest.mark.parametrize("values", SETS)
def test_what_selects_pods_selects_these_and_not_the_test(values: str) -> None:
    objects = rendered(values)
    labels = pod_of(objects)["metadata"]["labels"]
    tests = one(objects, "Pod")["metadata"]["labels"]
    deployment = one(objects, "Deployment")["spec"]
    selectors = [deployment["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in every(objects, "Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in every(objects, "PodDisruptionBudget")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in every(objects, "NetworkPolicy")]
    spread = deployment["template"]["spec"]["topologySpreadConstraints"]
    selectors += [each["labelSelector"]["matchLabels"] for each in spread]
    assert len(selectors) >= 5
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert not selector.items() <= tests.items()


@pytest.mark.parametrize("values", SETS)
def test_the_time_to_end_is_enough(values: str) -> None:
    objects = rendered(values)
    server = yaml.safe_load(gateway_yaml(objects))["server"]
    pod = pod_of(objects)["spec"]
    (container,) = pod["containers"]
    sleeps = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace_s = server.get("shutdown_grace", GatewayConfig().server.shutdown_grace) / 1000
    assert pod["terminationGracePeriodSeconds"] == sleeps + grace_s + 10


def test_values_reach_what_they_are_for() -> None:
    autoscaling = rendered("autoscaling")
    assert "replicas" not in one(autoscaling, "Deployment")["spec"], "would undo what the autoscaler did"
    metrics = one(autoscaling, "HorizontalPodAutoscaler")["spec"]["metrics"]
    assert metrics[0]["pods"]["metric"]["name"] in metric_names()
    assert one(autoscaling, "HTTPRoute")["spec"]["rules"][0]["timeouts"]["request"] == "300s"
    assert one(rendered("laptop"), "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    mtls = rendered("mtls")
    (container,) = pod_of(mtls)["spec"]["containers"]
    assert {container[probe]["httpGet"]["scheme"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")} == {
        "HTTPS"
    }
    assert "gw-model-gateway.prod.svc" in one(mtls, "Certificate")["spec"]["dnsNames"]
    external = rendered("external")
    assert pod_of(external)["spec"]["containers"][0]["readinessProbe"]["grpc"] == {
        "port": 50051, "service": "modelgateway.ModelGatewayService",
    }  # fmt: skip
    monitor = one(external, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
    scraped = [each for each in every(external, "Service") if monitor.items() <= each["metadata"]["labels"].items()]
    assert [each["metadata"]["name"] for each in scraped] == ["gateway-control"]


def test_alerts_ask_for_metrics_that_there_are() -> None:
    rules = one(rendered("external"), "PrometheusRule")["spec"]["groups"][0]["rules"]
    asked = {name for rule in rules for name in re.findall(r"model_gateway_\w+", rule["expr"])}
    assert len(rules) == 6
    assert asked <= metric_names()
    (errors,) = (rule["expr"] for rule in rules if rule["alert"] == "ModelGatewayErrors")
    (callers,) = re.findall(r'status!~"([^"]+)"', errors)
    assert set(callers.split("|")) == CALLER_STATUSES


def test_the_chart_knows_which_options_need_a_start() -> None:
    text = (CHART / "templates" / "_config.tpl").read_text()
    (listed,) = re.findall(r'define "model-gateway.atStart" -}}\n(.+)\n', text)
    assert listed.split() == list(AT_START)


@pytest.mark.parametrize(
    ("option", "replaced"),
    [
        ("config.routing.fallback=false", False),
        ("config.server.shutdownGrace=31000", False),
        ("config.monitoring.metricsInterval=2000", False),
        ("config.monitoring.enabled=false", True),
        ("config.server.workers=2", True),
        ("config.ledger.flush_interval=500", True),
        ("config.cache.redis.db=3", True),
        ("config.limits.whenUnavailable=fail_open", True),
    ],
)
def test_pods_are_replaced_for_what_counts_from_the_next_start_only(option: str, replaced: bool) -> None:
    def checksum(*more: str) -> str:
        return pod_of(rendered("default", *more))["metadata"]["annotations"]["checksum/start"]

    assert (checksum("--set", option) != checksum()) is replaced


def test_both_spellings_are_one_option() -> None:
    written = "config.server.requireKeys=false,config.server.allow_anonymous=true,config.keySecret=x"
    config = yaml.safe_load(gateway_yaml(rendered("default", "--set", written)))
    assert config["server"]["require_keys"] is False
    assert config["key_secret"] == "x" and "keySecret" not in config


def test_what_the_documentation_shows_can_be_installed(tmp_path: Path) -> None:
    text = (CHART.parents[2] / "docs" / "kubernetes.md").read_text()
    (shown,) = re.findall(r"```yaml\n(# my-values.yaml\n.+?)```", text, re.DOTALL)
    values = tmp_path / "my-values.yaml"
    values.write_text(shown)
    config = yaml.safe_load(gateway_yaml(rendered("default", "-f", str(values))))
    assert config["providers"]["openai"]["api_key"] == "file:/run/secrets/model-gateway/OPENAI_API_KEY"
    assert config["budgets"]["limits"][0]["usd"] == 500


def test_the_chart_has_the_gateways_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert f'version = "{chart["appVersion"]}"' in (CHART.parents[2] / "pyproject.toml").read_text()


def metric_names() -> set[str]:
    """As Prometheus stores them."""
    around = Around(certificates=(CertificateFigures("http", 1.0, False),))
    names = {(metric.name, metric.type) for metric in families(Counts(), around)}
    endings = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
    return {name + ending for name, kind in names for ending in endings[kind]}


def pods_of(objects: tuple[Object, ...]) -> Iterator[dict[str, Any]]:
    yield pod_of(objects)
    yield one(objects, "Pod")
