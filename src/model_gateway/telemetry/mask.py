"""What must never be read in a log: decides which parts of a line are secrets and replaces them."""

from __future__ import annotations

import re

MASK = "***"

# Vendors' keys (sk-…, and the shapes of GitHub, AWS, Google, Slack and Hugging Face), bearer tokens, and whatever is
# assigned to a name that promises a secret: api_key=…, "password": "…".
_SECRET = re.compile(
    r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{8,}"
    r"|\b(?:gh[pousr]_|hf_|AKIA|AIza|xox[abprs]-)[A-Za-z0-9_-]{12,}"
    r"|(?P<keep>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{6,}"
    r"|(?P<name>(?:api[_-]?key|authorization|password|passwd|secret|access[_-]?token)[\\\"']*\s*[:=]\s*[\\\"']*)"
    r"(?!(?:bearer|basic)\s|None\b|null\b)[^\s\\\"',;&}]+",
    re.IGNORECASE,
)


def mask(line: str) -> str:
    """`line` with every secret replaced; JSON stays JSON."""
    return _SECRET.sub(_replace, line)


def _replace(match: re.Match[str]) -> str:
    return (match["keep"] or match["name"] or "") + MASK
