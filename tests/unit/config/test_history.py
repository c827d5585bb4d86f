from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from model_gateway.config.errors import ConfigError
from model_gateway.config.history import KEEP, History, replace

NOW = datetime(2026, 11, 24, 3, 4, 5, tzinfo=UTC)


def test_versions_are_numbered_and_the_oldest_go(tmp_path: Path) -> None:
    history = History(tmp_path / "kept")
    assert history.versions() == []
    for number in range(KEEP + 5):
        assert history.keep(b"version: %d" % number, NOW + timedelta(seconds=number))
        assert not history.keep(b"version: %d" % number, NOW), "the same again is no new version"
    found = history.versions()
    assert [version.number for version in found] == list(range(6, KEEP + 6))
    assert found[-1].text == b"version: %d" % (KEEP + 4)
    assert found[0].at == NOW + timedelta(seconds=5)
    assert all(version.path.stat().st_mode & 0o777 == 0o600 for version in found), "they may hold secrets"
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


def test_the_one_before_is_the_last_that_differs(tmp_path: Path) -> None:
    history = History(tmp_path)
    for text in (b"a", b"b", b"c"):
        history.keep(text, NOW)
    assert history.find(None, b"c").text == b"b"
    assert history.find(None, b"broken").text == b"c", "what was never in force is not the one before"
    assert history.find(1, b"c").text == b"a"
    with pytest.raises(ConfigError, match=r"version 9 is not in .*: 1 to 3 are there"):
        history.find(9, b"c")
    with pytest.raises(ConfigError, match="none was kept yet"):
        History(tmp_path / "empty").find(None, b"c")


def test_a_file_is_replaced_at_once_with_its_rights_and_its_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "gateway.yaml"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    replace(link, b"new")
    assert link.is_symlink() and real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o640
    assert sorted(os.listdir(tmp_path)) == ["gateway.yaml", "real.yaml"], "no draft is left"  # noqa: PTH208
