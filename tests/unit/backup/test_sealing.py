"""What is sealed opens with its passphrase as it was written, and in no other way."""

from __future__ import annotations

import io
from random import Random

import pytest

from model_gateway.backup import sealing
from model_gateway.backup.sealing import MARK, PIECE_BYTES, Sealer, SealError, Unsealer, WrongPassphrase


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "_COST", 10)


def sealed(data: bytes, passphrase: str = "open") -> bytes:  # noqa: S107
    sink = io.BytesIO()
    sealer = Sealer(sink, passphrase)
    for start in range(0, len(data), 10_007):
        sealer.write(data[start : start + 10_007])
    sealer.flush()
    sealer.finish()
    return sink.getvalue()


def unsealed(data: bytes, passphrase: str = "open") -> bytes:  # noqa: S107
    return io.BufferedReader(Unsealer(io.BytesIO(data), passphrase)).read()


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 200_001])
def test_what_was_written_is_read(size: int) -> None:
    data = Random(size).randbytes(size)
    told = sealed(data)
    assert told.startswith(MARK)
    assert size < 100 or data[:100] not in told
    assert unsealed(told) == data


def test_the_same_text_is_never_sealed_alike() -> None:
    assert sealed(b"x") != sealed(b"x")


@pytest.mark.parametrize("passphrase", ["", "opem", "open ", "OPEN"])
def test_another_passphrase_opens_nothing(passphrase: str) -> None:
    with pytest.raises(WrongPassphrase, match="not the one"):
        unsealed(sealed(b"secret"), passphrase)


def test_one_changed_byte_anywhere_is_found() -> None:
    told = sealed(Random(1).randbytes(2 * PIECE_BYTES + 5))
    chance = Random(2)
    for at in [*range(40), *(chance.randrange(len(told)) for _ in range(40)), len(told) - 1]:
        changed = bytearray(told)
        changed[at] ^= 1
        with pytest.raises(SealError):
            unsealed(bytes(changed))


def test_every_cut_is_found() -> None:
    told = sealed(bytes(3 * PIECE_BYTES))
    piece = PIECE_BYTES + 16
    head = len(sealed(b"")) - 16
    for end in (0, 5, head, head + 1, head + 16, head + piece, head + 2 * piece, head + 2 * piece + 20, len(told) - 1):
        with pytest.raises(SealError):
            unsealed(told[:end])


def test_pieces_do_not_change_places() -> None:
    told = sealed(Random(3).randbytes(3 * PIECE_BYTES))
    piece = PIECE_BYTES + 16
    head = len(sealed(b"")) - 16
    one, two, rest = told[head : head + piece], told[head + piece : head + 2 * piece], told[head + 2 * piece :]
    for mixed in (two + one + rest, one + one + rest, one + rest, told[head:] + one):
        with pytest.raises(SealError):
            unsealed(told[:head] + mixed)


def test_a_head_that_asks_for_endless_work_is_refused() -> None:
    told = bytearray(sealed(b"x"))
    told[len(MARK)] = 40
    with pytest.raises(SealError, match="not sealed in a way"):
        unsealed(bytes(told))
