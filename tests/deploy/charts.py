"""The chart as Helm renders it, and what Kubernetes would say of it: for the tests of this folder."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "model-gateway"
EXAMPLES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*.yaml"))
SETS = ["default", *EXAMPLES]
"""The chart's own values, and what ci/ sets besides."""

CUSTOM = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "schemas").glob("*.json")}
VERSIONS = sorted((Path(sys.prefix) / "share" / "kubernetes").glob("*.json"))

Object = dict[str, Any]


def program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is missing: run `make .venv/.deploy`"
    return found


def values_of(name: str) -> list[str]:
    return [] if name == "default" else ["-f", str(CHART / "ci" / f"{name}-values.yaml")]


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program("helm"), *arguments], capture_output=True, text=True, timeout=60)


@cache
def rendered(name: str, *more: str, with_tests: bool = True) -> tuple[Object, ...]:
    """Of a set of values; `more` are further arguments of `helm template`."""
    skip = () if with_tests else ("--skip-tests",)
    done = helm("template", "gw", str(CHART), "-n", "prod", *values_of(name), *skip, *more)
    assert done.returncode == 0, done.stderr
    return tuple(each for each in yaml.safe_load_all(done.stdout) if each)


def refusal(*arguments: str) -> str:
    """What Helm says about values that it refuses."""
    done = helm("template", "gw", str(CHART), *arguments)
    assert done.returncode != 0, "was accepted"
    return done.stderr


def every(objects: tuple[Object, ...], kind: str) -> Iterator[Object]:
    return (each for each in objects if each["kind"] == kind)


def one(objects: tuple[Object, ...], kind: str, name: str = "") -> Object:
    found = [each for each in every(objects, kind) if not name or each["metadata"]["name"] == name]
    assert len(found) == 1, f"{len(found)} of kind {kind} {name}"
    return found[0]


def pod_of(objects: tuple[Object, ...]) -> Object:
    """The Deployment's pod."""
    return one(objects, "Deployment")["spec"]["template"]


def gateway_yaml(objects: tuple[Object, ...]) -> str:
    return one(objects, "ConfigMap")["data"]["gateway.yaml"]


@cache
def _definitions(version: Path) -> tuple[Registry[Any], dict[tuple[str, str], str]]:
    """Everything a version knows, and where each kind is in it."""
    document = json.loads(version.read_text())
    kinds: dict[tuple[str, str], str] = {}
    for name, schema in document["$defs"].items():
        options = schema.get("properties", {})
        for api in options.get("apiVersion", {}).get("enum", ()):
            for kind in options.get("kind", {}).get("enum", ()):
                kinds[api, kind] = f"{document['$id']}#/$defs/{name}"
    resource: Resource[Any] = Resource.from_contents(document)
    return cast("Registry[Any]", Registry()).with_resource(document["$id"], resource), kinds


def complaints(thing: Object, version: Path) -> list[str]:
    """What is wrong with an object for this version of Kubernetes. A field that it does not know is wrong."""
    if thing["kind"] in CUSTOM:
        validator = Draft202012Validator(CUSTOM[thing["kind"]])
    else:
        registry, kinds = _definitions(version)
        where = kinds.get((thing["apiVersion"], thing["kind"]))
        if where is None:
            return [f"{thing['apiVersion']} {thing['kind']} is unknown"]
        validator = Draft202012Validator({"$ref": where}, registry=registry)
    return [
        f"{'.'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in validator.iter_errors(thing)
    ]
