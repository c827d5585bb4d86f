"""Where Redis (or Valkey) is."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import Field, SecretStr

from model_gateway.config.section import Port, Section


class RedisConfig(Section):
    host: str = Field(default="localhost", description="Address of the Redis server.")
    port: Port = Field(default=6379, description="Port of the Redis server.")
    password: SecretStr = Field(default=SecretStr(""), description="`env:NAME` and `file:PATH` are read.")
    db: int = Field(default=0, ge=0, description="Number of the database.")
    url: SecretStr | None = Field(default=None, description="Replaces host, port, password and db; REDIS_URL sets it.")

    @property
    def address(self) -> str:
        """As a URL, password included."""
        if self.url is not None:
            return self.url.get_secret_value()
        password = quote(self.password.get_secret_value(), safe="")
        return f"redis://{f':{password}@' if password else ''}{self.host}:{self.port}/{self.db}"
