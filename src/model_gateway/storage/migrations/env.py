"""Alembic's entry: runs the steps on the connection that it was handed; there is no configuration file."""

from __future__ import annotations

from alembic import context

from model_gateway.storage.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
