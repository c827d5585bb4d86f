"""`routing samples`, `export` and `shadow`: what live traffic has taught. Decides wording and columns."""

from __future__ import annotations

import csv
import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select

from model_gateway.cli.output import CommandFailed, client_host
from model_gateway.cli.rows_file import COLUMNS, Prompt
from model_gateway.cli.trust import Trust, remedy_for
from model_gateway.config.load import load
from model_gateway.config.schema import GatewayConfig
from model_gateway.domain.route import TIERS, Tier
from model_gateway.observing import samples
from model_gateway.storage.database import open_database
from model_gateway.storage.schema import feedback

_SILENCE_S = 30.0


def sampled_prompts(config: Path | None) -> Sequence[Prompt]:
    """Each once, oldest first."""
    found = samples.every(samples.path_of(_config(config)))
    return [Prompt(text) for text in dict.fromkeys(sample.prompt for sample in found) if text.strip()]


def show_samples(config: Path | None, request_id: str, *, erase: bool) -> None:
    path = samples.path_of(_config(config))
    if erase:
        typer.echo(f"{samples.erase(path, request_id)} samples erased from {path}")
    else:
        typer.echo(f"{len(samples.every(path))} samples in {path}")


def export(config: Path | None, out: Path, hybrid: str, *, complete: bool) -> Mapping[str, Any]:
    """Rated samples as rows. Of several ratings of one prompt the mean. Raises CommandFailed."""
    if hybrid not in ("weak", "strong", "skip"):
        raise CommandFailed(f"--hybrid {hybrid}: not known", "weak, strong or skip")
    loaded = _config(config)
    found = samples.every(samples.path_of(loaded))
    scores = _scores(loaded)
    sides = {Tier.LOCAL: "weak", Tier.HYBRID: hybrid, Tier.REMOTE: "strong"}
    rows: dict[str, dict[str, list[tuple[float, str]]]] = {}
    rated = 0
    for sample in found:
        side = sides.get(Tier(sample.tier)) if sample.tier in TIERS else None
        if sample.uid in scores and side in ("weak", "strong"):
            rated += 1
            heard = rows.setdefault(sample.prompt, {"weak": [], "strong": []})
            heard[side].append((scores[sample.uid], f"{sample.provider}/{sample.model}"))
    chosen = {prompt: heard for prompt, heard in rows.items() if not complete or all(heard.values())}
    try:
        descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    except OSError as error:
        raise CommandFailed(f"--out: {out}: {error.strerror}", "choose a file that can be written") from None
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for prompt, heard in chosen.items():
            weak, strong = heard["weak"], heard["strong"]
            writer.writerow([prompt, _mean(weak), _mean(strong), "", "", _model(weak), _model(strong)])
    both = sum(all(heard.values()) for heard in chosen.values())
    return {"out": str(out), "samples": len(found), "rated": rated, "rows": len(chosen), "rows_with_both": both}


def shadow(config: Path | None, url: str | None, trust: Trust, *, as_json: bool) -> None:
    """Raises CommandFailed."""
    server = _config(config).server
    scheme = "https" if server.control_tls.cert else "http"
    address = (url or f"{scheme}://{client_host(server.control_host)}:{server.control_port or 9090}").rstrip("/")
    told = _comparison(_metrics(address, trust))
    if not told["requests"]:
        raise CommandFailed(
            f"the gateway at {address} has compared nothing yet", "set routing.shadow_model and ask with model auto"
        )
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    typer.echo(f"{told['requests']} requests; the same tier for {told['agreement']:.1%}")
    typer.echo(f"{'now / candidate':<16}" + "".join(f"{tier:>10}" for tier in TIERS))
    for tier in TIERS:
        typer.echo(f"{tier:<16}" + "".join(f"{told['tiers'][tier][other]:>10}" for other in TIERS))
    typer.echo(f"score: {told['score_difference']:+.3f} on average")
    typer.echo(f"cost:  {told['current_usd']:.6f} USD now, {told['candidate_usd']:.6f} by the candidate")
    if told["dropped"]:
        typer.echo(f"{told['dropped']} requests could not be compared or sampled: more came than could be noted")


def _comparison(text: str) -> dict[str, Any]:
    tiers = {str(tier): {str(other): 0 for other in TIERS} for tier in TIERS}
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "model_gateway_candidate_requests_total":
                tiers[sample.labels["tier"]][sample.labels["candidate_tier"]] += int(sample.value)
            elif sample.name.startswith(("model_gateway_candidate_", "model_gateway_observations_")):
                values[sample.name + sample.labels.get("by", "")] = sample.value
    requests = sum(sum(row.values()) for row in tiers.values())
    agreed = sum(tiers[tier][tier] for tier in tiers)
    return {
        "requests": requests,
        "agreement": agreed / requests if requests else 0.0,
        "tiers": tiers,
        "score_difference": values.get("model_gateway_candidate_score_difference", 0.0),
        "current_usd": values.get("model_gateway_candidate_cost_usd_totalcurrent", 0.0),
        "candidate_usd": values.get("model_gateway_candidate_cost_usd_totalcandidate", 0.0),
        "dropped": int(values.get("model_gateway_observations_dropped_total", 0)),
    }


def _metrics(address: str, trust: Trust) -> str:
    if not address.startswith(("http://", "https://")):
        raise CommandFailed(f"--url {address}: is no web address", "such as http://127.0.0.1:9090")
    context = trust.context() if address.startswith("https:") else None
    try:
        with urllib.request.urlopen(f"{address}/metrics", timeout=_SILENCE_S, context=context) as reply:  # noqa: S310
            return reply.read().decode()
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        remedy = remedy_for(reason if isinstance(reason, Exception) else error, "is the gateway running?")
        raise CommandFailed(f"{address}/metrics: {reason}", remedy) from None


def _scores(config: GatewayConfig) -> Mapping[str, float]:
    if config.ledger.url is None and not Path(config.ledger.path).exists():
        raise CommandFailed(f"there is no ledger at {config.ledger.path}", "start the gateway once, or pass --config")
    engine = open_database(config.ledger)
    try:
        with engine.begin() as connection:
            return {row.uid: row.score for row in connection.execute(select(feedback.c.uid, feedback.c.score))}
    finally:
        engine.dispose()


def _config(path: Path | None) -> GatewayConfig:
    return load(path, os.environ, Path.cwd()).config


def _mean(heard: Sequence[tuple[float, str]]) -> str:
    return f"{sum(score for score, _ in heard) / len(heard):g}" if heard else ""


def _model(heard: Sequence[tuple[float, str]]) -> str:
    return heard[-1][1] if heard else ""
