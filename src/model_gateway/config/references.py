"""Secrets by reference: `env:NAME` is a variable's value, `file:PATH` a file's content (Docker and Kubernetes secrets).

Decides how a reference is read, at load and nowhere else. Never puts a secret into a message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from pydantic.fields import FieldInfo

from model_gateway.config.document import Keys
from model_gateway.config.options import Model, Place, is_secret, shape_of
from model_gateway.config.problems import subject
from model_gateway.config.schema import GatewayConfig

_MAX_SECRET_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class References:
    """`folder` is what a relative `file:PATH` starts from. `problems` collects one line for each unreadable secret.

    `files`: those that a `file:` named, whether they could be read or not.
    """

    environ: Mapping[str, str]
    folder: Path
    places: Mapping[Keys, Place]
    problems: list[str] = field(default_factory=list[str])
    files: list[Path] = field(default_factory=list[Path])

    def resolve(self, values: Mapping[str, object]) -> dict[str, object]:
        """The same values with every secret in place of its reference."""
        return cast("dict[str, object]", self._section(GatewayConfig, values, ()))

    def _section(self, model: Model, value: object, keys: Keys) -> object:
        if not isinstance(value, Mapping):
            return value  # the schema will say so
        section = cast("Mapping[str, object]", value)
        fields = model.model_fields
        return {name: self._value(fields[name], item, (*keys, name)) for name, item in section.items()}

    def _value(self, info: FieldInfo, value: object, keys: Keys) -> object:
        shape, model = shape_of(info)
        if model is not None and shape == "section":
            return self._section(model, value, keys)
        if model is None and not is_secret(info):
            return value
        if isinstance(value, Mapping):
            items = cast("Mapping[str, object]", value).items()
            return {name: self._entry(model, item, (*keys, name)) for name, item in items}
        if isinstance(value, list):
            return [self._entry(model, item, (*keys, at)) for at, item in enumerate(cast("list[object]", value))]
        return self._entry(model, value, keys)

    def _entry(self, model: Model | None, value: object, keys: Keys) -> object:
        if model is not None:
            return self._section(model, value, keys)
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)
        except ValueError as error:
            self.problems.append(f"{subject(keys, self.places)}: {error}")
            return "unresolved"

    def _read(self, written: str) -> str:
        """Raises ValueError with the reason."""
        scheme, _, rest = written.partition(":")
        secret = written
        if scheme == "env":
            secret = self.environ.get(rest, "")
            if not secret:
                raise ValueError(f"{written}: the environment variable {rest} is not set; set it, or put it into .env")
        elif scheme == "file":
            path = self.folder / Path(rest).expanduser()
            self.files.append(path)
            try:
                secret = path.read_bytes()[:_MAX_SECRET_BYTES].decode().strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else "not UTF-8 text"
                raise ValueError(f"{written}: {path} cannot be read: {reason}") from None
            if not secret:
                raise ValueError(f"{written}: {path} is empty")
        elif scheme == "vault":
            raise ValueError("vault: references are not supported; use env:NAME or file:PATH")
        # A line break would end an HTTP header and begin another.
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in secret):
            raise ValueError("the secret has a line break or another control character inside")
        return secret
