"""deploy/kubernetes: as the chart makes it, and something that kubectl can build on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml
from charts import ROOT, Object, program, rendered

MANIFESTS = ROOT / "deploy" / "kubernetes"


def test_they_are_what_the_chart_makes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts/manifests.py"), str(tmp_path)], check=True, timeout=60)
    fresh = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {path.name: path.read_text() for path in MANIFESTS.iterdir()} == fresh, "run `make manifests`"


def test_kustomize_builds_them_in_a_namespace_and_with_an_image_of_its_users(tmp_path: Path) -> None:
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "models",
        "resources": ["base"],
        "images": [{"name": "model-gateway", "newName": "registry.example.com/gw", "newTag": "9"}],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    (tmp_path / "base").symlink_to(MANIFESTS)
    command = (program("kubectl"), "kustomize", "--load-restrictor", "LoadRestrictionsNone", str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built: list[Object] = [each for each in yaml.safe_load_all(done.stdout) if each]
    assert sorted(each["kind"] for each in built) == sorted(
        each["kind"] for each in rendered("default", with_tests=False)
    )
    assert {each["metadata"]["namespace"] for each in built} == {"models"}
    (deployment,) = (each for each in built if each["kind"] == "Deployment")
    assert deployment["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example.com/gw:9"
    assert "helm" not in done.stdout.lower().replace("helm test", "")
