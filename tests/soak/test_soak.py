"""Two minutes of what `make soak` does for hours."""

from __future__ import annotations

from pathlib import Path

import pytest
from soaking import Soak

SECONDS = 120.0


@pytest.mark.timeout(240)
async def test_two_minutes_of_faults_fail_nobody_and_leave_nothing_behind(tmp_path: Path) -> None:
    result = await Soak(tmp_path, SECONDS, fault_s=10.0).run()
    assert result.failed == {}
    assert result.faults >= 6 and result.requests > 2_000
    # Caches still fill in the first minutes: only a leak that shows at once is found here, slower ones by hours of it.
    assert result.growth_bytes < 25e6 * max(1.0, result.measured / 100_000), f"{result.growth_bytes / 1e6:.1f} MB"
    assert result.in_flight == 0
    # Those that are kept to the two providers, and the log file after its first line.
    assert result.descriptors[1] <= result.descriptors[0] + 60
    assert result.threads[1] <= result.threads[0] + 4
