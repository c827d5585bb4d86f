"""The environment variables that set options, and their places.

Decides which variable sets which option. Values are checked by the schema like those of the file. An empty variable
counts as not set, so that a copied .env.example changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from model_gateway.config.document import Keys
from model_gateway.config.options import Place

VARIABLES: Final[Mapping[str, Keys]] = {
    "PORT": ("server", "port"),
    "HTTP_PORT": ("server", "http_port"),
    "CONTROL_PORT": ("server", "control_port"),
    "HOST": ("server", "host"),
    "NODE_ENV": ("environment",),
    "GATEWAY_ENV": ("environment",),  # after its alias: it wins
    "LOG_LEVEL": ("logging", "level"),
    "REDIS_URL": ("cache", "redis", "url"),
    "OPENAI_API_KEY": ("providers", "openai", "api_key"),
    "ANTHROPIC_API_KEY": ("providers", "anthropic", "api_key"),
    "OPENAI_BASE_URL": ("providers", "openai", "base_url"),
}


def read_environment(
    environ: Mapping[str, str], env_file: Mapping[str, str], file_name: str
) -> tuple[dict[Keys, str], dict[Keys, Place]]:
    """The values that variables set, and their places. The real environment wins over the .env file, even if empty."""
    values: dict[Keys, str] = {}
    places: dict[Keys, Place] = {}
    for variable, keys in VARIABLES.items():
        value = environ.get(variable, env_file.get(variable, "")).strip()
        if value:
            place = f"{variable} ({'environment' if variable in environ else file_name})"
            values[keys] = value.lower() if variable == "LOG_LEVEL" else value
            places[keys] = Place(place, place)
    return values, places
