"""Which modules the compiled wheel has as machine code, and the build hook that makes them with mypyc.

`make compiled` switches the hook on; no other build runs it, and the plain wheel knows nothing of it. The wheel holds
the sources as well: Python takes a module's library before its source, and a traceback still shows the line.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

# Chosen by instructions per request (docs/performance.md, "Compiled"): pure decisions that every request takes.
# Not among them, and why:
# - modules that define msgspec Structs or pydantic models: mypyc drops a class's keywords (frozen, rename) and the
#   parameters of its annotations, so that msgspec would accept what it must refuse;
# - assess/model.py: such Structs, and a class that is referred to weakly, which mypyc's are not by default;
# - the doors' dialects and encoders: 2 % for sixteen modules. The connections delete an attribute,
#   which a native class does not;
# - what awaits (pipeline, dispatch, streams): 5 % for fifteen modules; cancellation is what there is to lose.
MODULES = (
    "admission/gate.py",
    "admission/keys.py",
    "assess/facts.py",
    "assess/features.py",
    "assess/reading.py",
    "assess/sample.py",
    "assess/structure.py",
    "assess/trained.py",
    "budget/charges.py",
    "budget/leasing.py",
    "budget/pricing.py",
    "budget/share.py",
    "budget/tokens.py",
    "cache/key.py",
    "cache/memory.py",
    "dispatch/breaker.py",
    "dispatch/latencies.py",
    "dispatch/retry.py",
    "guard/guard.py",
    "providers/keys.py",
    "providers/openai.py",
    "recording.py",
    "routing/catalog.py",
    "routing/kinds.py",
    "routing/names.py",
    "routing/pool.py",
    "routing/router.py",
    "server/http/details.py",
    "server/http/heads.py",
    "server/http/options.py",
    "server/http/quota.py",
    "sessions/identity.py",
    "telemetry/mask.py",
    "telemetry/metrics.py",
    "telemetry/outcome.py",
    "wire/openai_request.py",
    "wire/sse.py",
)
PACKAGE = "model_gateway"


class CompiledModules(BuildHookInterface[Any]):
    """Adds the libraries of MODULES to a wheel, which then is for one Python and one kind of machine."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return  # its modules are the sources, which change
        self._folder = tempfile.TemporaryDirectory(prefix="model-gateway-compiled-")
        libraries = Path(self._folder.name) / "libraries"
        build(Path(self.root) / "src", Path(self._folder.name), libraries)
        found = [path for path in libraries.rglob("*") if path.suffix in (".so", ".pyd")]
        build_data["force_include"].update({str(path): str(path.relative_to(libraries)) for path in found})
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        if version != "editable":
            self._folder.cleanup()


def build(source: Path, folder: Path, libraries: Path) -> None:
    """MODULES below `source` as libraries; everything is written below `folder`. Ends the process where it fails."""
    import setuptools  # before mypyc, which builds with whichever of setuptools and distutils is loaded
    from mypyc.build import mypycify

    # The names of the modules follow from where they are: no path may lead elsewhere.
    options = ["--follow-imports=silent", "--ignore-missing-imports", f"--cache-dir={folder / 'types'}"]
    extensions = mypycify(
        [*options, f"--python-executable={sys.executable}", *(str(source / PACKAGE / name) for name in MODULES)],
        debug_level="0",
        target_dir=str(folder / "c"),
        group_name=PACKAGE,
    )
    for extension in extensions:
        if os.name == "posix":
            extension.extra_compile_args.append("-Wno-error")  # a compiler newer than mypyc warns of more
    distribution = setuptools.Distribution({"name": PACKAGE, "ext_modules": extensions})
    command = distribution.get_command_obj("build_ext")
    command.build_lib, command.build_temp = str(libraries), str(folder / "objects")
    command.parallel = os.cpu_count() or 1
    command.ensure_finalized()
    command.run()
