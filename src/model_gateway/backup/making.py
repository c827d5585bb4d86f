"""Makes a backup of a gateway that may be serving: gathers what belongs in it, then packs it into one file.

Decides what is in a backup and in which order it is read, so that no row is missed: the journals, then the moment of
the database, then the journals again. A row that has left a journal before is in the database; those whose money the
database holds at that moment are in the second copy (what began after it, a restore leaves out). Secrets are left out
unless they are asked for.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import scrypt
from pathlib import Path

from model_gateway import __version__
from model_gateway.backup import snapshot
from model_gateway.backup.archive import FORMAT, BackupError, Manifest, digest_of, names_in, pack
from model_gateway.budget.journal import folder_of, read
from model_gateway.budget.rows import COLUMNS
from model_gateway.config.errors import ConfigError
from model_gateway.config.history import HISTORY, history_beside
from model_gateway.config.load import ENV_FILE_NAME, Loaded
from model_gateway.config.masking import masked
from model_gateway.config.schema import GatewayConfig
from model_gateway.storage.keys import secret_path

SUFFIX = ".tar.gz"
_NAME = re.compile(r"model-gateway-\d{8}T\d{6}Z(-\d+)?\.tar\.gz(\.sealed)?")
_CHECK_COST = 2**14


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for. `target`: a folder, or the name of the file."""

    target: Path
    keep: int | None = None
    secrets: bool = False
    passphrase: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    path: Path
    manifest: Manifest
    removed: Sequence[Path]


def make(loaded: Loaded, cwd: Path, wish: Wish, now: datetime) -> Made:
    """Raises BackupError; nothing is left behind then."""
    path = _file_for(wish, now)
    config = loaded.config
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".backup-", dir=path.parent) as temporary:
            folder = Path(temporary)
            revision = _gather_ledger(config, folder) if config.ledger.enabled else ""
            left_out = _gather_configuration(loaded, cwd, folder, literal=wish.secrets)
            _gather_history(config, folder, literal=wish.secrets)
            if wish.secrets:
                _gather_secrets(config, folder)
            manifest = _manifest(config, folder, wish, now, revision, left_out)
            pack(folder, manifest, path, wish.passphrase)
        removed = _remove_old(path.parent, wish.keep) if wish.keep is not None else []
    except OSError as error:
        raise BackupError(
            f"the backup {path} cannot be written: {error.strerror or error}",
            "set --to to a place with room that this user may write",
        ) from error
    return Made(path, manifest, removed)


def key_check(secret: bytes, salt: str) -> str:
    """Tells whether two secrets are the same, to whoever has one of them, and slowly to whoever guesses."""
    return scrypt(secret, salt=salt.encode(), n=_CHECK_COST, r=8, p=1, dklen=16).hex()


def held_secret(config: GatewayConfig) -> bytes | None:
    """What the stored keys are sealed with, as text or file have it; None: there is none yet."""
    if config.key_secret is not None:
        return config.key_secret.get_secret_value().encode()
    path = secret_path(config.ledger.path)
    return path.read_bytes().strip() if path.exists() else None


def _file_for(wish: Wish, now: datetime) -> Path:
    target = wish.target
    if target.name.endswith((SUFFIX, f"{SUFFIX}.sealed")) and not target.is_dir():
        if wish.keep is not None:
            raise BackupError(f"--keep counts the backups of a folder, and --to {target} is a file", "name a folder")
        return target
    if target.exists() and not target.is_dir():
        raise BackupError(f"--to {target}: is there and no folder", f"name a folder, or a file that ends in {SUFFIX}")
    ending = f"{SUFFIX}.sealed" if wish.passphrase else SUFFIX
    stem = f"model-gateway-{now.astimezone(UTC):%Y%m%dT%H%M%SZ}"
    names = [f"{stem}{ending}", *(f"{stem}-{number}{ending}" for number in range(2, 1000))]
    return next(path for name in names if not (path := target / name).exists())


def _gather_ledger(config: GatewayConfig, folder: Path) -> str:
    journals = folder_of(config.ledger.path)
    copies = folder / "journals"
    copies.mkdir(mode=0o700)
    _copy_journals(journals, copies)
    return snapshot.take(config.ledger, folder / "ledger.db", lambda: _copy_journals(journals, copies))


def _copy_journals(journals: Path, copies: Path) -> None:
    """A file that is gone meanwhile has all its rows in the database; a later copy holds what the earlier one did."""
    for path in sorted(journals.glob("*.journal")):
        try:
            shutil.copyfile(path, copies / path.name)
        except FileNotFoundError:
            continue
        (copies / path.name).chmod(0o600)


def _gather_configuration(loaded: Loaded, cwd: Path, folder: Path, *, literal: bool) -> list[str]:
    """Returns the options whose secrets were masked."""
    left_out: list[str] = []
    if loaded.path is not None:
        text = loaded.path.read_text(encoding="utf-8-sig")
        if not literal:
            text, left_out = masked(text, loaded.path.name)
        _write(folder / "gateway.yaml", text.encode())
    environment = cwd / ENV_FILE_NAME
    if literal and environment.exists():
        _write(folder / ENV_FILE_NAME, environment.read_bytes())
    return left_out


def _gather_history(config: GatewayConfig, folder: Path, *, literal: bool) -> None:
    """The configurations that were in force. One whose secrets cannot be masked is left out."""
    versions = history_beside(config.ledger.path).versions()
    if versions:
        (folder / HISTORY).mkdir(mode=0o700)
    for version in versions:
        with contextlib.suppress(FileNotFoundError, UnicodeDecodeError, ConfigError):  # a gateway removes the oldest
            text = version.text
            if not literal:
                text = masked(text.decode("utf-8-sig"), version.path.name)[0].encode()
            _write(folder / HISTORY / version.path.name, text)


def _gather_secrets(config: GatewayConfig, folder: Path) -> None:
    beside = Path(config.ledger.path).parent
    for path in (secret_path(config.ledger.path), beside / "admin.token"):
        if path.exists():
            _write(folder / path.name, path.read_bytes())


def _manifest(
    config: GatewayConfig, folder: Path, wish: Wish, now: datetime, revision: str, left_out: list[str]
) -> Manifest:
    ledger = folder / "ledger.db"
    journaled = {row[0] for path in sorted(folder.glob("journals/*.journal")) for row in read(path)}
    secret, salt = held_secret(config), secrets.token_hex(8)
    return Manifest(
        format=FORMAT,
        app_version=__version__,
        created_at=now.astimezone(UTC).isoformat(timespec="seconds"),
        database="" if not revision else "postgresql" if config.ledger.url else "sqlite",
        schema_revision=revision,
        rows=snapshot.counts(ledger) if ledger.exists() else {},
        journaled=len(journaled),
        journal_columns=[str(name) for name in COLUMNS],
        secrets=wish.secrets,
        masked=left_out,
        key_check=f"{salt}:{key_check(secret, salt)}" if secret else "",
        members={name: digest_of(folder / name) for name in names_in(folder)},
    )


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


def _remove_old(folder: Path, keep: int) -> list[Path]:
    """Of the backups that this command has named; their names are in the order of time."""
    ours = sorted((path for path in folder.iterdir() if _NAME.fullmatch(path.name)), key=_age, reverse=True)
    for path in ours[keep:]:
        path.unlink()
    return ours[keep:]


def _age(path: Path) -> tuple[str, int]:
    stem = path.name.removesuffix(".sealed").removesuffix(SUFFIX)
    moment, _, number = stem.removeprefix("model-gateway-").partition("-")
    return moment, int(number or 1)
