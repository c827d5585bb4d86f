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
