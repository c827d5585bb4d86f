"""The file of a backup: a gzipped tar whose first member, the manifest, says what the others are and their checksums.

Decides the form of the file and what is refused in one: a member of another name, kind, size or checksum than the
manifest says. Never writes outside the folder it was given, and never shows a file before it is whole. What the members
mean is for making.py and restoring.py.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import secrets
import tarfile
import zlib
from collections.abc import Collection, Generator
from hashlib import sha256
from pathlib import Path
from typing import IO, BinaryIO, cast

import msgspec

from model_gateway.backup.sealing import MARK, Sealer, SealError, Unsealer, WrongPassphrase
from model_gateway.config.errors import StartupError

FORMAT = 1
MANIFEST = "manifest.json"
_MAX_MANIFEST_BYTES = 4 * 1024 * 1024
_MEMBER = re.compile(
    r"gateway\.yaml|\.env|ledger\.db|keys\.secret|admin\.token|journals/[A-Za-z0-9_-]{1,100}\.journal"
    r"|config-history/\d{6}-\d{8}T\d{6}Z\.yaml"
)
_BLOCK = 1024 * 1024
_COMPRESSION = 6


class BackupError(StartupError):
    """A backup cannot be made, or is not what it should be."""


class Member(msgspec.Struct, frozen=True):
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup holds. `rows` by table; `journaled`: rows of the journals, some of which the tables hold too.

    `key_check`: a salt and a seal, with which a restore finds out whether the keys' secret is the one of then.
    """

    format: int
    app_version: str
    created_at: str
    database: str  # sqlite, postgresql, or empty: no ledger
    schema_revision: str
    rows: dict[str, int]
    journaled: int
    journal_columns: list[str]
    secrets: bool
    masked: list[str]
    key_check: str
    members: dict[str, Member]


def digest_of(path: Path) -> Member:
    digest, size = sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return Member(size, digest.hexdigest())


def names_in(folder: Path) -> list[str]:
    """The members that a folder holds, in the order of their names."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def pack(folder: Path, manifest: Manifest, target: Path, passphrase: str | None) -> None:
    """Write the folder's files as `target`, which appears whole or not at all. Raises OSError."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _write(file, folder, manifest, passphrase)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        sync_folder(target.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_sealed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(MARK)) == MARK


def unpack(path: Path, folder: Path, passphrase: str | None, only: Collection[str] | None = None) -> Manifest:
    """Put the members, or `only` these, into `folder`, all checked. Raises BackupError, and OSError for this disk."""
    with path.open("rb") as file, _readable(path, file, passphrase) as archive:
        found = iter(archive)
        manifest = _manifest(path, archive, next(found, None))
        left = dict(manifest.members)
        for info in found:
            expected = left.pop(info.name, None)
            if expected is None or not info.isreg() or not _MEMBER.fullmatch(info.name):
                raise _refused(path, f"it holds {info.name!r}, which its manifest does not say or no backup has")
            target = folder / info.name if only is None or info.name in only else Path(os.devnull)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            if info.size != expected.size or _copy(archive, info, target) != expected.sha256:
                raise _refused(path, f"{info.name} is not as the manifest says: it was changed or damaged")
        if left:
            raise _refused(path, f"{', '.join(left)} is missing in it")
        return manifest


def sync_folder(folder: Path) -> None:
    """So that a new name in it outlives a power cut. Not on Windows, which has no such thing."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(file: BinaryIO, folder: Path, manifest: Manifest, passphrase: str | None) -> None:
    sealer = Sealer(file, passphrase) if passphrase else None
    sink = cast("IO[bytes]", sealer or file)
    with (
        gzip.GzipFile(filename="", fileobj=sink, mode="wb", compresslevel=_COMPRESSION, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w|") as archive,
    ):
        told = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
        head = _info(MANIFEST, len(told))
        archive.addfile(head, io.BytesIO(told))
        for name, member in manifest.members.items():
            with (folder / name).open("rb") as source:
                archive.addfile(_info(name, member.size), source)
    if sealer is not None:
        sealer.finish()


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


@contextlib.contextmanager
def _readable(path: Path, file: BinaryIO, passphrase: str | None) -> Generator[tarfile.TarFile]:
    """The archive, read as a stream to its very end, so that a cut or damaged one is found."""
    sealed = file.read(len(MARK)) == MARK
    file.seek(0)
    if sealed and not passphrase:
        raise BackupError(
            f"{path} is sealed with a passphrase",
            "set MODEL_GATEWAY_BACKUP_PASSPHRASE, or pass --passphrase-file",
        )
    try:
        source = io.BufferedReader(Unsealer(file, passphrase or "")) if sealed else file
        with gzip.GzipFile(fileobj=source, mode="rb") as zipped:
            with tarfile.open(fileobj=zipped, mode="r|") as archive:
                yield archive
            while zipped.read(_BLOCK):
                pass
    except WrongPassphrase as error:
        raise BackupError(
            f"{path}: {error}", "pass the passphrase of then; without it nothing opens the file"
        ) from None
    except SealError as error:
        raise _refused(path, str(error)) from None
    except (EOFError, gzip.BadGzipFile, zlib.error, tarfile.TarError) as error:
        raise _refused(path, f"it is no backup, damaged or cut off: {error}") from None


def _manifest(path: Path, archive: tarfile.TarFile, info: tarfile.TarInfo | None) -> Manifest:
    if info is None or info.name != MANIFEST or not info.isreg() or info.size > _MAX_MANIFEST_BYTES:
        raise _refused(path, "it does not begin with a manifest")
    source = archive.extractfile(info)
    data = source.read() if source is not None else b""
    try:
        known = msgspec.json.decode(data, type=dict[str, object]).get("format")
        if isinstance(known, int) and known > FORMAT:
            raise BackupError(
                f"{path} has format {known}, this gateway knows {FORMAT}", "restore it with the version that made it"
            )
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _refused(path, f"its manifest cannot be read: {error}") from None


def _copy(archive: tarfile.TarFile, info: tarfile.TarInfo, target: Path) -> str:
    """Its bytes into a new file that only we may read. Returns their checksum."""
    source = archive.extractfile(info)
    digest = sha256()
    new = 0 if target == Path(os.devnull) else os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(target, os.O_WRONLY | new, 0o600), "wb") as file:
        while source is not None and (block := source.read(_BLOCK)):
            digest.update(block)
            file.write(block)
    return digest.hexdigest()


def _refused(path: Path, reason: str) -> BackupError:
    return BackupError(f"{path}: {reason}", "take another backup; this one is not restored, not even in part")
