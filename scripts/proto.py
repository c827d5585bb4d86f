"""Compiles proto/*.proto into src/model_gateway/pb. Run by `make proto`; the generated files are committed.

`python scripts/proto.py [OUT]` writes below OUT (default: src). Needs grpcio-tools, a development dependency.
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "model_gateway/pb"


def compile_protos(out: Path) -> list[Path]:
    """Write the generated modules to out/model_gateway/pb and return their paths. Raises RuntimeError on failure."""
    # Mapping the source folder onto the package's path makes the generated imports right: nothing to patch afterwards.
    sources = sorted(f"{PACKAGE}/{path.name}" for path in (ROOT / "proto").glob("*.proto"))
    arguments = [f"-I{PACKAGE}={ROOT / 'proto'}"]
    arguments += [f"--{kind}_out={out}" for kind in ("python", "grpc_python", "pyi")]
    if protoc.main(["protoc", *arguments, *sources]) != 0:
        raise RuntimeError(f"protoc refused {', '.join(sources)}; its messages are above")
    return sorted((out / PACKAGE).glob("*_pb2*"))


if __name__ == "__main__":
    for written in compile_protos(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "src"):
        print(written)
