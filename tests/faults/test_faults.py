"""Every fault at every door: the fallback's answer, or one clear error; in time; counted as what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.provider import FAULTS, Fault
from faults.scorecard import score

ROOT = Path(__file__).parents[2]
# Chat completions carry every fault; the other protocols those that depend on what the provider says.
SPOKEN = [fault for fault in FAULTS if fault.answer is not None and not fault.name[0].isdigit()]
PROTOCOLS = ("responses", "anthropic", "gemini")


@pytest.mark.parametrize("fallback", [True, False], ids=["fallback", "alone"])
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_fault(tmp_path: Path, fault: Fault, fallback: bool) -> None:
    result = await score(fault, tmp_path, fallback=fallback)
    assert result.wrong() == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("fault", SPOKEN, ids=lambda fault: fault.name)
async def test_fault_of_another_protocol(tmp_path: Path, fault: Fault, protocol: str) -> None:
    result = await score(fault, tmp_path, fallback=True, protocol=protocol, seed=7)
    assert result.wrong() == []


async def test_a_retry_after_is_not_undercut_by_any_door(tmp_path: Path) -> None:
    """Alone, with eight callers at once, each with a retry: until the second has passed, none calls again."""
    fault = next(fault for fault in FAULTS if fault.name == "429 with Retry-After")
    result = await score(fault, tmp_path, fallback=False)
    assert result.wrong() == []
    early = [call.at for call in result.calls if call.at - result.calls[0].at < 1.0]
    # Those that were on their way before the first answer came are no breach; none begins after it.
    assert max(early) - early[0] < 0.3


@pytest.mark.parametrize("page", ["README.md", "docs/reliability.md"])
def test_the_published_table_has_every_fault_and_nothing_wrong(page: str) -> None:
    rows = [line.split(" | ") for line in (ROOT / page).read_text().splitlines() if line.endswith(" s |")]
    first = [row for row in rows if len(row) == 5][: len(FAULTS)]
    assert [row[0].removeprefix("| ") for row in first] == [fault.name for fault in FAULTS]
    for row, fault in zip(first, FAULTS, strict=True):
        assert row[1:4] == ["answer", "answer" if fault.before else "error", "error"]
