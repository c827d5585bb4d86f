"""The environment variables that set options, and their places.

Decides which variable sets which option. Values are checked by the schema like those of the file. An empty variable
counts as not set, so that a copied .env.example changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from model_gateway.config.document import Keys
from model_gateway.config.options import Place
from model_gateway.config.vendors import KEY_VARIABLES

AZURE_ENDPOINT: Final = "AZURE_OPENAI_ENDPOINT"
"""As the vendor shows it: https://RESOURCE.openai.azure.com"""

CALLER_KEY: Final[Keys] = ("keys",)
"""One more entry of the list, for those who write no file."""

VARIABLES: Final[Mapping[str, Keys]] = {
    "PORT": ("server", "port"),
    "HTTP_PORT": ("server", "http_port"),
    "ADMIN_TOKEN": ("server", "admin_token"),
    "CONTROL_PORT": ("server", "control_port"),
    "HOST": ("server", "host"),
    "CONTROL_HOST": ("server", "control_host"),
    "REQUIRE_KEYS": ("server", "require_keys"),
    "ALLOW_ANONYMOUS": ("server", "allow_anonymous"),
    "CALLER_KEY": CALLER_KEY,
    "WORKERS": ("server", "workers"),
    "TLS_CERT": ("server", "tls", "cert"),
    "TLS_KEY": ("server", "tls", "key"),
    "TLS_CLIENT_CA": ("server", "tls", "client_ca"),
    "CONTROL_TLS_CERT": ("server", "control_tls", "cert"),
    "CONTROL_TLS_KEY": ("server", "control_tls", "key"),
    "CONTROL_TLS_CLIENT_CA": ("server", "control_tls", "client_ca"),
    "NODE_ENV": ("environment",),
    "GATEWAY_ENV": ("environment",),  # after its alias: it wins
    "LOG_LEVEL": ("logging", "level"),
    "REDIS_URL": ("cache", "redis", "url"),
    "LEDGER_PATH": ("ledger", "path"),
    # Reversed: of two variables for one key the first named wins.
    **{
        variable: ("providers", vendor, "api_key")
        for vendor, variables in KEY_VARIABLES.items()
        for variable in reversed(variables)
    },
    "OPENAI_BASE_URL": ("providers", "openai", "base_url"),
    AZURE_ENDPOINT: ("providers", "azure", "base_url"),
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
            if variable == "LOG_LEVEL":
                value = value.lower()
            elif variable == AZURE_ENDPOINT:
                value = f"{value.rstrip('/')}/openai/v1"
            values[keys] = value
            places[keys] = Place(place, place)
    return values, places
