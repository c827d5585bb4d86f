"""How a pattern may be written, and what it then matches."""

from __future__ import annotations

import re

import pytest

from model_gateway.config.patterns import compile_pattern


@pytest.mark.parametrize(
    ("literal", "matches", "misses"),
    [
        (r"exec\s*\(", "please exec (x)", "EXEC(x)"),
        (r"/exec\s*\(/i", "EXEC (x)", "execute"),
        (r"/^b/m", "a\nb", "ab"),
        (r"/^b/", "b", "a\nb"),
        (r"/a.b/s", "a\nb", "ab"),
        (r"/a.b/", "a-b", "a\nb"),
        (r"/A.B/gimsu", "x a\nb", "ab"),
        (r"/\/etc\/passwd/", "cat /etc/passwd", "etc passwd"),
        ("/a/b/", "xa/by", "ab"),
        ("密码", "我的密码是", "密 码"),
    ],
)
def test_matches(literal: str, matches: str, misses: str) -> None:
    pattern = compile_pattern(literal)
    assert pattern.search(matches) is not None
    assert pattern.search(misses) is None


@pytest.mark.parametrize(
    ("literal", "reason"),
    [
        ("", "the pattern is empty"),
        ("//", "the pattern is empty"),
        ("//i", "the pattern is empty"),
        ("/", "no / ends it"),
        ("/etc", "no / ends it"),
        ("/etc/passwd", "unknown flags 'pawd'"),
        ("/a/ix", "unknown flags 'x'"),
        ("(", "missing )"),
        ("a(?=b)", "invalid perl operator"),
        (r"(a)\1", "invalid escape sequence"),
        ("a*", "matches the empty text"),
        ("/^|x/", "matches the empty text"),
        ("a{2000}", "invalid repetition size"),
    ],
)
def test_refused_with_a_reason(literal: str, reason: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        compile_pattern(literal)
    assert capfd.readouterr() == ("", "")


def test_a_pattern_that_would_explode_elsewhere_is_linear() -> None:
    assert compile_pattern(r"(a+)+$").search("a" * 100_000 + "b") is None
