"""The commands of `routing` that gather what a routing model learns from. Decides names, options, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from model_gateway.cli.output import CommandFailed
from model_gateway.cli.routing import routing_app

Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file. [default: ./gateway.yaml if it is there]")
]
Url = Annotated[str | None, typer.Option(envvar="MODEL_GATEWAY_URL", help="The gateway. [default: this machine's]")]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", envvar="MODEL_GATEWAY_CA", help="PEM: authorities to trust beside the usual ones."),
]


@routing_app.command("label")
def label(
    data: Annotated[str, typer.Option(help="A text file (a prompt a line), a CSV file (column prompt), or `samples`.")],
    weak: Annotated[str, typer.Option(help="PROVIDER/MODEL, as configured.")],
    strong: Annotated[str, typer.Option(help="PROVIDER/MODEL.")],
    out: Annotated[Path, typer.Option(help="The CSV file; what it holds already is not asked again.")],
    judge: Annotated[str, typer.Option(help="PROVIDER/MODEL that scores both answers without knowing whose.")] = "",
    match: Annotated[str, typer.Option(help="exact, contains or number: compare with a reference.")] = "",
    references: Annotated[str | None, typer.Option(help="The CSV file's column with right answers.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many prompts in this run.")] = None,
    budget_usd: Annotated[float | None, typer.Option(min=0, help="Most USD, over all runs into --out.")] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of one answer.")] = 1024,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Prompts at once.")] = 4,
    url: Url = None,
    key: Annotated[str, typer.Option(envvar="MODEL_GATEWAY_KEY", help="Your key.")] = "",
    ca: Ca = None,
    config: Config = None,
) -> None:
    """Ask a weak and a strong model the same prompts and write how right each was; may be interrupted and resumed."""
    from model_gateway.cli import labelling
    from model_gateway.cli.ask import default_url
    from model_gateway.cli.paid_calls import Place
    from model_gateway.cli.rows_file import read_prompts
    from model_gateway.cli.trust import Trust

    if data == "samples":
        from model_gateway.cli.gathering import sampled_prompts

        prompts = sampled_prompts(config)
    else:
        prompts = read_prompts(Path(data), references)
    place = Place(url or default_url(), key, Trust(ca))
    chosen = match or ("exact" if references and not judge else "")
    summary = labelling.label(
        labelling.Task(
            place, prompts, weak, strong, judge, chosen, limit, budget_usd, max_tokens, concurrency, out, config
        )
    )
    typer.echo(json.dumps(summary, ensure_ascii=False, indent=2))
    if summary["failed"]:
        raise CommandFailed(f"{summary['failed']} prompts have no row", "run the command again: only those are asked")


@routing_app.command("samples")
def show_samples(
    erase: Annotated[bool, typer.Option("--erase", help="Erase them.")] = False,
    request_id: Annotated[str, typer.Option(help="With --erase: only those of this request.")] = "",
    config: Config = None,
) -> None:
    """Say how many prompts of live traffic were sampled, or erase them."""
    from model_gateway.cli import gathering

    if request_id and not erase:
        raise typer.BadParameter("needs --erase", param_hint="--request-id")
    gathering.show_samples(config, request_id, erase=erase)


@routing_app.command("export")
def export(
    out: Annotated[Path, typer.Option(help="The CSV file to write.")],
    hybrid: Annotated[str, typer.Option(help="Which answers of the middle tier are: weak, strong or skip.")] = "strong",
    complete: Annotated[bool, typer.Option("--complete", help="Only prompts of which both were rated.")] = False,
    config: Config = None,
) -> None:
    """Write sampled prompts with what callers thought of their answers."""
    from model_gateway.cli import gathering

    summary = gathering.export(config, out, hybrid, complete=complete)
    typer.echo(json.dumps(summary, ensure_ascii=False, indent=2))


@routing_app.command("shadow")
def shadow(
    url: Annotated[str | None, typer.Option(help="The control plane. [default: as configured]")] = None,
    ca: Ca = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    config: Config = None,
) -> None:
    """Compare routing.shadow_model with the present one, on the traffic since the gateway's start."""
    from model_gateway.cli import gathering
    from model_gateway.cli.trust import Trust

    gathering.shadow(config, url, Trust(ca), as_json=as_json)
