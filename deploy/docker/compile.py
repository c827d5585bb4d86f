"""Byte code for what a gateway loads, while the image is built: later nobody may write it. Run by its interpreter.

Decides what that is: all of ours, what these import, and what databases and Redis load on first use. All of what is
installed would be three times as much.
"""

import importlib
import importlib.util
import pkgutil
import py_compile
import sys

import model_gateway

ON_FIRST_USE = ("psycopg", "redis.asyncio", "sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.dialects.sqlite")
SIDE_EFFECTS = ("model_gateway.cli.__main__", "model_gateway.storage.migrations.env")
# Needs NumPy and SciPy, which are not in the image: routing models are fitted elsewhere.
FITTING = "model_gateway.learning."

sys.dont_write_bytecode = True
for module in pkgutil.walk_packages(model_gateway.__path__, "model_gateway."):
    if module.name not in SIDE_EFFECTS and not module.name.startswith(FITTING):
        importlib.import_module(module.name)
for name in ON_FIRST_USE:
    importlib.import_module(name)
files = {file for module in [*sys.modules.values()] if (file := getattr(module, "__file__", None))}
files |= {spec.origin for name in SIDE_EFFECTS if (spec := importlib.util.find_spec(name)) and spec.origin}
for file in sorted(file for file in files if file.endswith(".py")):
    # Unchecked: times of files do not survive every way in which an image is copied.
    py_compile.compile(file, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
