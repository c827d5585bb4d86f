"""The committed generated code is what proto/ says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "src/model_gateway/pb"


def test_generated_code_is_fresh(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts/proto.py"), str(tmp_path)], check=True, timeout=60)
    fresh = {path.name: path.read_bytes() for path in (tmp_path / "model_gateway/pb").iterdir()}
    committed = {path.name: path.read_bytes() for path in GENERATED.glob("*_pb2*")}
    assert committed.keys() == fresh.keys()
    for name, content in fresh.items():
        assert committed[name] == content, f"{name} is stale: run `make proto`"


def test_declared_dependencies_can_run_the_generated_code() -> None:
    """Generated code refuses to be imported under older libraries than it was generated with."""
    declared = "\n".join(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    grpc = re.search(r"GRPC_GENERATED_VERSION = '([\d.]+)'", (GENERATED / "gateway_pb2_grpc.py").read_text())
    protobuf = re.search(r"Protobuf Python Version: ([\d.]+)", (GENERATED / "gateway_pb2.py").read_text())
    assert grpc is not None
    assert protobuf is not None
    assert f"grpcio>={grpc[1]}," in declared
    assert f"protobuf>={protobuf[1]}," in declared
