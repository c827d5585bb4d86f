"""Configuration from its four sources to one validated `GatewayConfig`, or to one line for each mistake.

Decides the order: defaults < presets < gateway.yaml < .env < environment. Never starts or connects anything; the only
I/O is reading the file, the .env beside it and the secrets that are referred to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Final, cast

from pydantic import ValidationError

from model_gateway.config import checks, migrations
from model_gateway.config.document import NO_FILE, Keys, parse, read_env_file, read_text
from model_gateway.config.environment import CALLER_KEY, read_environment
from model_gateway.config.errors import ConfigError
from model_gateway.config.options import Layer, Place, canonical, dotted
from model_gateway.config.presets import EMBEDDED, MODEL_OPTIONS, preset_for
from model_gateway.config.problems import describe, subject
from model_gateway.config.references import References
from model_gateway.config.schema import GatewayConfig

FILE_NAME: Final = "gateway.yaml"
ENV_FILE_NAME: Final = ".env"

_REMEDY = "`model-gateway config example` prints every option with its meaning"


@dataclass(frozen=True, slots=True)
class Loaded:
    """`path` is the file that was read, if any; `sources` maps each written option (keys[0].name) to where it was.

    `files`: all that were read, or would have been, had they been there; `digest`: of the file's text, "" for none.
    """

    config: GatewayConfig
    path: Path | None = None
    warnings: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    files: tuple[Path, ...] = ()
    digest: str = ""

    @property
    def source(self) -> str:
        """The file that was read, in words."""
        return str(self.path) if self.path else f"no config file ({FILE_NAME}): defaults"


def load(path: Path | None, environ: Mapping[str, str], cwd: Path) -> Loaded:
    """Load from `path`, else from ./gateway.yaml if it exists, else from defaults. Raises ConfigError.

    `cwd` is where gateway.yaml and .env are looked for; a relative `file:PATH` starts at the folder of gateway.yaml.
    """
    file = find_file(path, cwd)
    layer, digest, warnings = Layer(), "", list[str]()
    if file is not None:
        shown = _shown(file, cwd)
        text = read_text(file, shown, NO_FILE)
        digest = sha256(text.encode()).hexdigest()
        step = migrations.migrated(text, shown)
        warnings += migrations.deprecation(step, shown)
        layer = canonical(*parse(step.text, shown), file=shown)
    env_file = read_env_file(cwd / ENV_FILE_NAME, ENV_FILE_NAME)
    variables, variable_places = read_environment(environ, env_file, ENV_FILE_NAME)

    places = {**layer.places, **variable_places}
    if CALLER_KEY in layer.places:  # the list is the file's, and the variable adds to it
        places[CALLER_KEY] = layer.places[CALLER_KEY]
    values = layer.values
    warnings += [
        f"{variable_places[keys].source} replaces the value at {layer.places[keys].subject}"
        for keys in variables.keys() & layer.places.keys()
        if keys[-1] == "api_key" and _at(values, keys) != f"env:{variable_places[keys].source.split()[0]}"
    ]
    for keys, value in variables.items():
        _put(values, keys, value)
    warnings += _add_presets(values, places)

    references = References({**env_file, **environ}, file.parent if file else cwd, places)
    values = references.resolve(values)
    problems = [*layer.problems, *references.problems]
    config = _validated(values, places, problems)
    if config is None or problems:
        raise ConfigError("\n".join(problems), _REMEDY)
    files = (file or cwd / FILE_NAME, cwd / ENV_FILE_NAME, *dict.fromkeys(references.files))
    return Loaded(config, file, (*warnings, *checks.warnings(config, places)), _sources(places), files, digest)


def find_file(path: Path | None, cwd: Path) -> Path | None:
    """The file to read: the one asked for, whether it exists or not, else ./gateway.yaml if it exists."""
    if path is not None:
        return cwd / path
    default = cwd / FILE_NAME
    return default if default.exists() else None


def _validated(values: dict[str, object], places: Mapping[Keys, Place], problems: list[str]) -> GatewayConfig | None:
    try:
        config = GatewayConfig.model_validate(values)
    except ValidationError as error:
        problems += describe(error, places)
        return None
    problems += [f"{subject(keys, places)}: {text}" for keys, text in checks.problems(config)]
    return config


def _add_presets(values: dict[str, object], places: dict[Keys, Place]) -> list[str]:
    """Put each preset under its provider. A vendor is there by its key or by its entry in the file. Gives warnings."""
    warnings: list[str] = []
    providers = values.setdefault("providers", {})
    if not isinstance(providers, dict):
        return warnings  # the schema will say so
    named = cast("dict[str, object]", providers)
    named.setdefault(EMBEDDED, {})
    for name, written in list(named.items()):
        if not isinstance(written, dict):
            continue
        options = cast("dict[str, object]", written)
        if options.keys() == {"base_url"} and ("providers", name) not in places:
            del named[name]  # OPENAI_BASE_URL alone does not switch the provider on
            continue
        preset = preset_for(name, options)
        complete = {**preset, **options}
        whole = name == EMBEDDED or (MODEL_OPTIONS & complete.keys() and "base_url" in complete)
        if not whole and ("providers", name) not in places:
            # A key that happens to be in the environment must not stop the gateway.
            warnings.append(f"the provider {name} has a key, but stays off: it needs its base_url and a model too")
            del named[name]
            continue
        named[name] = complete
        for option in preset.keys() - options.keys():
            keys = ("providers", name, option)
            places[keys] = Place("preset", f"{dotted(keys)} (preset)")
    return warnings


def _put(values: dict[str, object], keys: Keys, value: str) -> None:
    if keys == CALLER_KEY:
        listed: object = values.get("keys") or []
        if isinstance(listed, list):  # else the schema will say so
            values["keys"] = [*cast("list[object]", listed), {"name": "default", "key": value}]
        return
    *sections, option = (str(key) for key in keys)
    for name in sections:
        inner = values.setdefault(name, {})
        if not isinstance(inner, dict):
            return  # the schema will say so
        values = cast("dict[str, object]", inner)
    values[option] = value


def _at(values: object, keys: Keys) -> object:
    for key in keys:
        values = cast("dict[str | int, object]", values)[key]
    return values


def _sources(places: Mapping[Keys, Place]) -> Mapping[str, str]:
    return MappingProxyType({dotted(keys): place.source for keys, place in places.items()})


def _shown(file: Path, cwd: Path) -> str:
    return str(file.relative_to(cwd)) if file.is_relative_to(cwd) else str(file)
