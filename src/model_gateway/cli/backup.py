"""`backup` and `restore`: where files go, where the passphrase comes from, and what the user is told.

Decides options and wording; what is in a backup and what may be overwritten is decided in backup/.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import typer
from pydantic import SecretStr

from model_gateway.backup.archive import Manifest, is_sealed, unpack
from model_gateway.backup.making import Wish, make
from model_gateway.backup.restoring import examine, put_configuration
from model_gateway.backup.restoring import restore as put_back
from model_gateway.cli import auditing
from model_gateway.cli.output import CommandFailed, warn
from model_gateway.config.history import HISTORY
from model_gateway.config.load import FILE_NAME, load
from model_gateway.config.schema import GatewayConfig
from model_gateway.storage.audit import Act

PASSPHRASE = "MODEL_GATEWAY_BACKUP_PASSPHRASE"  # noqa: S105 - the name of a variable
_WARNING = "warning: "


def backup(
    path: Path | None, to: Path, keep: int | None, passphrase_file: Path | None, *, full: bool, seal: bool
) -> None:
    """Raises StartupError; no file is there then."""
    cwd = Path.cwd()
    loaded = load(path, os.environ, cwd)
    passphrase = _passphrase(passphrase_file) if seal or passphrase_file else None
    if (seal or passphrase_file) and not passphrase:
        raise CommandFailed("--encrypt needs a passphrase", f"set {PASSPHRASE}, or pass --passphrase-file")
    made = make(loaded, cwd, Wish(to, keep, full, passphrase), datetime.now(UTC))
    detail = {"path": str(made.path.resolve()), "secrets": full, "sealed": bool(passphrase)}
    auditing.note(loaded.config.ledger, Act("backup.made", made.path.name, detail=detail))
    sealed = ", sealed with the passphrase" if passphrase else ""
    typer.echo(f"{made.path}  {made.path.stat().st_size / 1e6:,.3f} MB{sealed}")
    for line in _contents(made.manifest):
        typer.echo(f"  {line}")
    for each in made.removed:
        typer.echo(f"removed: {each}")
    warn(_left_out(made.manifest, loaded.config))
    if full and not passphrase:
        warn([f"{made.path} holds all secrets as they are: keep it as you keep them, or pass --encrypt"])


def restore(
    file: Path, path: Path | None, into: str | None, passphrase_file: Path | None, extract: Path | None,
    *, check: bool, force: bool,
) -> None:  # fmt: skip
    """Raises StartupError, before anything is changed where something is wrong or in the way."""
    try:
        passphrase = _passphrase(passphrase_file) if is_sealed(file) else None
        if extract is not None:
            _extract(file, extract, passphrase)
        else:
            _restore(file, path, into, passphrase, check=check, force=force)
    except OSError as error:
        where = error.filename or file
        raise CommandFailed(f"{where}: {error.strerror or error}", "check the place, its room and its rights") from None


def _extract(file: Path, folder: Path, passphrase: str | None) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise CommandFailed(f"--extract {folder}: is not empty", "name a new folder")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    manifest = unpack(file, folder, passphrase)
    typer.echo(f"{len(manifest.members)} files are in {folder}, as they were; nothing is restored")


def _restore(
    file: Path, path: Path | None, into: str | None, passphrase: str | None, *, check: bool, force: bool
) -> None:
    cwd, now = Path.cwd(), datetime.now(UTC)
    config_file = cwd / (path or FILE_NAME)
    said: list[str] = []
    if check and not config_file.exists():
        config = GatewayConfig()
    else:
        if not check:
            with tempfile.TemporaryDirectory(prefix=".restore-", dir=cwd) as work:
                said += put_configuration(file, passphrase, Path(work), config_file, cwd)
        config = load(path, os.environ, cwd).config
    config = _aimed(config, into)
    folder = Path(tempfile.gettempdir()) if check else Path(config.ledger.path).parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=folder) as work:
        restored = examine(file, passphrase, Path(work), config)
        if not check:
            put_back(restored, Path(work), config, now, force=force)
            made = restored.manifest
            detail = {"of": made.created_at, "by": made.app_version, "forced": force}
            auditing.note(config.ledger, Act("backup.restored", file.name, detail=detail))
    typer.echo(f"{file}  of {restored.manifest.created_at} by model-gateway {restored.manifest.app_version}")
    for line in _contents(restored.manifest):
        typer.echo(f"  {line}")
    said += restored.said
    for line in said:
        if not line.startswith(_WARNING):
            typer.echo(f"  {line}")
    warn(line.removeprefix(_WARNING) for line in said if line.startswith(_WARNING))
    typer.echo("ok: it can be restored" if check else "ok: restored")


def _aimed(config: GatewayConfig, into: str | None) -> GatewayConfig:
    """The configuration with another ledger: an SQLite file, or a database's address."""
    if into is None:
        return config
    if into.startswith("env:"):
        into = os.environ.get(into[4:], "")
        if not into:
            raise CommandFailed("--into: the variable is not set", "set it to postgresql://USER:PASSWORD@HOST/DATABASE")
    url = SecretStr(into) if "://" in into else None
    ledger = {"url": url} if url else {"url": None, "path": into}
    return config.model_copy(update={"ledger": config.ledger.model_copy(update=ledger)})


def _passphrase(file: Path | None) -> str | None:
    if file is None:
        return os.environ.get(PASSPHRASE) or None
    try:
        return file.read_text().rstrip("\r\n") or None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"--passphrase-file {file}: cannot be read: {error}", "name a text file") from None


def _contents(manifest: Manifest) -> Iterator[str]:
    if manifest.database:
        rows = ", ".join(f"{count:,} {name}" for name, count in manifest.rows.items())
        yield f"ledger         {rows}  ({manifest.database}, layout {manifest.schema_revision})"
        yield f"journals       {manifest.journaled:,} rows; those that the ledger lacks are added by a restore"
    names = [name for name in manifest.members if not name.startswith(("ledger", "journals", HISTORY))]
    versions = sum(name.startswith(HISTORY) for name in manifest.members)
    names += [f"{versions} earlier configurations"] if versions else []
    masked = f"  (without {', '.join(manifest.masked)})" if manifest.masked else ""
    yield f"files          {', '.join(names) or 'none'}{masked}"


def _left_out(manifest: Manifest, config: GatewayConfig) -> Iterator[str]:
    """What the backup cannot bring back, and what that means."""
    if manifest.secrets:
        return
    yield "secrets are left out (.env, keys.secret, admin.token, and what gateway.yaml holds as it is): --with-secrets"
    keys = manifest.rows.get("keys", 0)
    if keys:
        sealed = "key_secret" if config.key_secret is not None else "the file keys.secret beside the ledger"
        yield (
            f"the {keys} stored keys are in it, but open a restored gateway only where {sealed} is the same: "
            "keep that too, or all of them must be made anew"
        )
