"""docs/observability.md names every metric with its labels, every field of a log line, every status; and no other."""

from __future__ import annotations

import re

from pages import ROOT

from model_gateway.domain.errors import ErrorKind
from model_gateway.domain.record import Attempt, Cascaded, Record
from model_gateway.domain.usage import Usage
from model_gateway.telemetry.around import Around, CertificateFigures, WorkerFigures
from model_gateway.telemetry.exposition import rendered
from model_gateway.telemetry.logs import RequestLine
from model_gateway.telemetry.metrics import Metrics
from model_gateway.telemetry.outcome import is_failure

PAGE = (ROOT / "docs/observability.md").read_text(encoding="utf-8")


def rows(first: str) -> list[list[str]]:
    """The cells of the table whose head begins with this word."""
    table = re.search(rf"^\| {first} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table[1].splitlines()]


def exposed() -> dict[tuple[str, str], set[str]]:
    """Name and type of each metric of a gateway in which everything has happened once → its labels."""
    metrics = Metrics(models=["m"], in_flight=lambda: {"p": 1})
    metrics.observe(
        Record(
            "r", "http", 0.0, model="m", provider="p", cache="miss", first_token_s=0.1, usage=Usage(1, 1),
            attempts=[Attempt("p", "m", "ok")], cascade=Cascaded("smart", "kept", "passed"),
        )
    )  # fmt: skip
    comparison = metrics.comparison()
    comparison.tiers["local", "remote"] = 1
    metrics.embeddings()["ok"] = 1
    around = Around(
        workers=(WorkerFigures(0, 1, 1, 1, 1.0),), restarts=1, certificates=(CertificateFigures("http", 1.0, False),)
    )
    text = rendered(metrics.counts(), around)[0].decode()
    found: dict[tuple[str, str], set[str]] = {}
    for name, kind in re.findall(r"^# TYPE (model_gateway_\w+) (\w+)$", text, re.MULTILINE):
        series = re.findall(rf"^{name}(?:_sum|_total)?(?:\{{(.*)\}})? ", text, re.MULTILINE)
        assert series, name
        found[name, kind] = {label for one in series for label in re.findall(r'(\w+)="', one)}
    return found


def test_every_metric_is_told_with_its_type_and_labels() -> None:
    told = {(row[0].strip("`"), row[1]): set(re.findall(r"`(\w+)`", row[2])) for row in rows("metric")}
    assert told == exposed()


def test_every_field_of_a_request_line_is_told_in_its_order() -> None:
    assert [row[0].strip("`") for row in rows("field")] == list(RequestLine.__struct_fields__)


def test_every_status_is_told_with_whose_fault_it_is() -> None:
    callers = re.search(r"^\| the caller's \| (.*) \|$", PAGE, re.MULTILINE)
    ours = re.search(r"^\| the gateway's or a provider's \| (.*) \|$", PAGE, re.MULTILINE)
    assert callers is not None and ours is not None
    statuses = {*map(str, ErrorKind), "cancelled"}
    assert set(re.findall(r"`(\w+)`", callers[1])) == {status for status in statuses if not is_failure(status)}
    assert set(re.findall(r"`(\w+)`", ours[1])) == {status for status in statuses if is_failure(status)}
