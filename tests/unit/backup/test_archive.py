"""A backup's file: whole or refused; nothing outside the folder, whatever somebody has put into it."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterable
from pathlib import Path
from random import Random

import msgspec
import pytest

from model_gateway.backup import archive, sealing
from model_gateway.backup.archive import BackupError, Manifest, Member, digest_of, names_in, pack, unpack

FILES = {
    "gateway.yaml": b"version: 1\n",
    "keys.secret": b"00" * 32,
    "journals/1-ab-00000001.journal": b"j" * 5000,
    "ledger.db": Random(1).randbytes(300_000),
}


def manifest_of(members: dict[str, Member]) -> Manifest:
    return Manifest(1, "0.1.0", "2026-11-24T00:00:00+00:00", "sqlite", "0003", {}, 0, [], False, [], "", members)


def packed(folder: Path, passphrase: str | None = None) -> Path:
    source = folder / "source"
    for name, data in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    target = folder / "backup.tar.gz"
    pack(source, manifest_of({name: digest_of(source / name) for name in names_in(source)}), target, passphrase)
    return target


def into(folder: Path) -> Path:
    target = folder / "out"
    target.mkdir(exist_ok=True)
    for path in sorted(target.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return target


def forged(folder: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]], manifest: Manifest | bytes | None) -> Path:
    target = folder / "forged.tar.gz"
    with tarfile.open(target, "w:gz") as tar:
        if manifest is not None:
            data = manifest if isinstance(manifest, bytes) else msgspec.json.encode(manifest)
            info = tarfile.TarInfo("manifest.json")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        for info, data in members:
            tar.addfile(info, io.BytesIO(data))
    return target


def member(name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info


@pytest.mark.parametrize("passphrase", [None, "open"])
def test_what_is_packed_is_unpacked(tmp_path: Path, passphrase: str | None) -> None:
    path = packed(tmp_path, passphrase)
    out = into(tmp_path)
    manifest = unpack(path, out, passphrase)
    assert {name: (out / name).read_bytes() for name in names_in(out)} == FILES
    assert manifest.schema_revision == "0003"
    if os.name != "nt":
        assert {stat.S_IMODE(each.stat().st_mode) for each in (path, *(out / name for name in FILES))} == {0o600}


def test_only_some_may_be_wanted_and_all_are_checked(tmp_path: Path) -> None:
    path, out = packed(tmp_path), into(tmp_path)
    unpack(path, out, None, only=("gateway.yaml",))
    assert names_in(out) == ["gateway.yaml"]
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(BackupError):
        unpack(path, into(tmp_path), None, only=("gateway.yaml",))


def test_a_plain_tar_opens_it(tmp_path: Path) -> None:
    with tarfile.open(packed(tmp_path)) as tar:
        assert tar.getnames() == ["manifest.json", *sorted(FILES)]


@pytest.mark.parametrize("passphrase", [None, "open"])
def test_every_cut_and_every_changed_byte_is_found(
    tmp_path: Path, passphrase: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "_COST", 10)
    data = packed(tmp_path, passphrase).read_bytes()
    broken = tmp_path / "broken.tar.gz"
    chance = Random(4)
    for _ in range(40):
        at = chance.randrange(len(data))
        changed = bytearray(data)
        changed[at] ^= 1 << chance.randrange(8)
        for version in (data[:at], bytes(changed)):
            broken.write_bytes(version)
            if not passphrase and 4 <= at < 10 and version != data[:at]:
                continue  # gzip's time and system mean nothing
            with pytest.raises(BackupError) as refused:
                unpack(broken, into(tmp_path), passphrase)
            assert refused.value.remedy


def test_a_sealed_one_without_its_passphrase(tmp_path: Path) -> None:
    path = packed(tmp_path, "open")
    with pytest.raises(BackupError, match="sealed with a passphrase"):
        unpack(path, into(tmp_path), None)
    with pytest.raises(BackupError, match="not the one it was made with"):
        unpack(path, into(tmp_path), "shut")


@pytest.mark.parametrize(
    "info",
    [
        member("../evil"),
        member("journals/../../evil.journal"),
        member("/tmp/ops-evil"),
        member("ledger.db", b"", tarfile.SYMTYPE, "/etc/passwd"),
        member("ledger.db", b"", tarfile.LNKTYPE, "../evil"),
        member("journals", b"", tarfile.DIRTYPE),
        member("ledger.db", b"", tarfile.FIFOTYPE),
        member("gateway.yaml.exe"),
        member("journals/.journal"),
        member("manifest.json"),
    ],
    ids=lambda info: f"{info.name} {info.type}",
)
def test_a_member_that_no_backup_has_is_refused(tmp_path: Path, info: tarfile.TarInfo) -> None:
    data = b"x" * info.size
    expected = Member(len(data), "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881" if data else "")
    for named in (True, False):
        manifest = manifest_of({info.name: expected} if named else {})
        with pytest.raises(BackupError):
            unpack(forged(tmp_path, [(info, data)], manifest), into(tmp_path), None)
        assert names_in(tmp_path / "out") == []
        assert not (tmp_path / "evil").exists() and not Path("/tmp/ops-evil").exists()


def test_what_the_manifest_says_must_be_true(tmp_path: Path) -> None:
    info = member("gateway.yaml", b"abc")
    good = Member(3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    assert unpack(forged(tmp_path, [(info, b"abc")], manifest_of({info.name: good})), into(tmp_path), None)
    for manifest, says in (
        (manifest_of({info.name: Member(3, "00")}), "changed or damaged"),
        (manifest_of({info.name: Member(2, good.sha256)}), "changed or damaged"),
        (manifest_of({info.name: good, "ledger.db": good}), "is missing"),
        (None, "does not begin with a manifest"),
        (b"[1]", "cannot be read"),
        (b'{"format": 1}', "cannot be read"),
        (b"\xff", "cannot be read"),
    ):
        with pytest.raises(BackupError, match=says):
            unpack(forged(tmp_path, [(info, b"abc")], manifest), into(tmp_path), None)
    twice = [(info, b"abc"), (info, b"abc")]
    with pytest.raises(BackupError, match="does not say"):
        unpack(forged(tmp_path, twice, manifest_of({info.name: good})), into(tmp_path), None)


def test_a_newer_format_says_so(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="has format 2, this gateway knows 1"):
        unpack(forged(tmp_path, [], b'{"format": 2, "everything": "else"}'), into(tmp_path), None)


@pytest.mark.parametrize("data", [b"", b"x", b"PK\x03\x04 and more", gzip.compress(b"not a tar" * 100)])
def test_another_kind_of_file(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "other.tar.gz"
    path.write_bytes(data)
    with pytest.raises(BackupError):
        unpack(path, into(tmp_path), None)


def test_a_full_disk_leaves_nothing_and_the_older_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = packed(tmp_path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(archive.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        packed(tmp_path)
    assert path.read_bytes() == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["backup.tar.gz", "source"]
