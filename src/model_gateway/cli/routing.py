"""`routing`: measure, fit and look at routing models. Decides wording; the work is in learning/."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from model_gateway.cli.output import CommandFailed, warn

if TYPE_CHECKING:
    from model_gateway.assess.assessor import Assessor
    from model_gateway.assess.model import RoutingModel
    from model_gateway.learning.fitting import Apart
    from model_gateway.learning.rows import Row

routing_app = typer.Typer(no_args_is_help=True, help="The routing model: measure, fit, label, compare.")

_AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
_Model = Annotated[str, typer.Option("--model", "-m", help="A routing model's file. [default: the shipped one]")]


@routing_app.command("eval")
def evaluate(
    data: Annotated[Path, typer.Option(help="CSV with the columns prompt, weak, strong.")],
    model: _Model = "shipped",
    as_json: _AsJson = False,
    plot: Annotated[Path | None, typer.Option(help="Write the curve there, as PNG.")] = None,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    without: Annotated[
        bool, typer.Option("--without-embeddings", help="Leave its embedding part out, as where it comes too late.")
    ] = False,
) -> None:
    """How well a routing model chooses, on queries of which it is known which model was right."""
    _needs_extra()
    from model_gateway.assessing import routing_model
    from model_gateway.learning import evaluation
    from model_gateway.learning.rows import DataInvalid, read_rows

    loaded = routing_model(model)
    try:
        rows = read_rows(data)
    except DataInvalid as error:
        raise CommandFailed(str(error)) from None
    if data.name in loaded.header.sources:
        warn([f"the model was fitted to a file named {data.name}: on rows that it has seen the figures mean nothing"])
    weak = {row.weak_model for row in rows}
    if len(weak) == 1:
        loaded.for_weak_model(weak.pop())
    said = evaluation.ask(_assessor(loaded, [row.prompt for row in rows], without=without), rows)
    report = evaluation.evaluate(said, seed=seed)
    if plot is not None:
        from model_gateway.learning.plot import draw

        try:
            draw(said, report, data.name, plot)
        except (OSError, ValueError) as error:
            raise CommandFailed(f"--plot: {plot}: {error}") from None
    if as_json:
        import msgspec

        known = {"data": str(data), "model": model, "digest": loaded.digest, "embeddings": _says_part(loaded, without)}
        typer.echo(msgspec.json.format(msgspec.json.encode(known | msgspec.to_builtins(report))).decode())
        return
    _print(report, data, model, f"{loaded.header.name}, embeddings: {_says_part(loaded, without)}")
    if plot is not None:
        typer.echo(f"\ncurve written to {plot}")


def _print(report: object, data: Path, model: str, name: str) -> None:
    from model_gateway.learning.evaluation import Report

    assert isinstance(report, Report)  # noqa: S101 (the type is imported late, with the extra)
    typer.echo(f"{data}: {report.rows} queries, weak {report.weak_mean:.3f}, strong {report.strong_mean:.3f}")
    typer.echo(f"model: {name} ({model})\n")
    typer.echo(f"{'':<14}{'APGR':>8}{'CPT50':>9}{'CPT80':>9}")
    typer.echo(f"{'router':<14}{report.apgr:>8.3f}{report.cpt50:>9.1%}{report.cpt80:>9.1%}   ± {report.se:.3f} (SE)")
    typer.echo(f"{'length only':<14}{report.apgr_length:>8.3f}{report.cpt50_length:>9.1%}{report.cpt80_length:>9.1%}")
    typer.echo(f"{'random':<14}{report.apgr_random:>8.3f}{0.5:>9.1%}{0.8:>9.1%}")
    typer.echo(f"{'by the score':<14}{report.apgr_score:>8.3f}\n")
    typer.echo(f"strong calls saved at 95 % of the strong model's quality: {report.saved_at_95:.1%}")
    typer.echo(f"score as a probability: ECE {report.ece:.3f}, Brier {report.brier:.3f}; abstained {report.abstained}")
    for said, found, count in report.reliability:
        typer.echo(f"  said {said:5.2f}  failed {found:5.2f}  {count:>6} queries")


@routing_app.command()
def fit(
    data: Annotated[list[Path], typer.Option(help="CSV with the columns prompt, weak, strong; may be repeated.")],
    out: Annotated[Path, typer.Option(help="The routing model's file to write.")],
    labels: Annotated[int | None, typer.Option(min=50, help="Use only so many rows, drawn by chance.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw and of the folds.")] = 0,
    name: Annotated[str, typer.Option(help="What the model calls itself. [default: the file's name]")] = "",
    embeddings: Annotated[
        bool,
        typer.Option("--embeddings", help="Give it an embedding part (extra `embeddings`), and say what it brings."),
    ] = False,
) -> None:
    """Fit and calibrate a routing model; then set complexity.model to its file."""
    _needs_extra()
    if embeddings:
        _needs_embeddings("")
    from model_gateway.learning.everyday import everyday_queries
    from model_gateway.learning.fitting import fit_apart
    from model_gateway.learning.rows import DataInvalid, drawn, read_rows

    try:
        rows = [row for path in data for row in read_rows(path)]
    except DataInvalid as error:
        raise CommandFailed(str(error)) from None
    chosen = drawn(rows, labels, seed)
    today = datetime.now(UTC).date()
    model, apart = fit_apart(chosen, everyday_queries(), name=name or out.stem, seed=seed, today=today)
    if embeddings:
        model = _with_embeddings(model, apart, chosen)
    written = model.dump()
    try:
        out.write_bytes(written)
    except OSError as error:
        raise CommandFailed(f"--out: {out}: {error.strerror}") from None
    typer.echo(f"{out}: fitted to {len(chosen)} of {len(rows)} rows, {len(written) / 1e6:.1f} MB")
    typer.echo("measure it on rows that it has not seen: model-gateway routing eval --data … --model " + str(out))


@routing_app.command()
def info(model: _Model = "shipped", as_json: _AsJson = False) -> None:
    """What a routing model was made from, and which weak models it knows."""
    from model_gateway.assessing import routing_model

    loaded = routing_model(model)
    header = loaded.header
    facts = {
        "name": header.name,
        "digest": loaded.digest,
        "format": header.format,
        "made": header.made,
        "rows": header.rows,
        "sources": header.sources,
        "weak_models": tuple(loaded.weak_models),
        "embeddings": _says_part(loaded, without=False),
    }
    if as_json:
        import msgspec

        typer.echo(msgspec.json.format(msgspec.json.encode(facts)).decode())
        return
    for key, value in facts.items():
        typer.echo(f"{key:<12} {', '.join(value) if isinstance(value, tuple) else value}")


def _assessor(model: RoutingModel, prompts: Sequence[str], *, without: bool) -> Assessor:
    """With the embeddings that serving would have asked for, all in time."""
    from model_gateway.assess.embedding import EmbeddingAssessor
    from model_gateway.assess.trained import TrainedAssessor
    from model_gateway.config.complexity import ComplexityConfig
    from model_gateway.config.schema import RoutingConfig

    words = TrainedAssessor(ComplexityConfig(), RoutingConfig(), model)
    part = model.header.embedding
    if part is None or without:
        return words
    _needs_embeddings(part.engine)
    from model_gateway.learning.embedding import embedded

    found: dict[str, list[float]] = {}
    assessor = EmbeddingAssessor(words, RoutingConfig(), found.get)
    wanted = [assessor.begin(prompt) for prompt in prompts if assessor.wants(prompt)]
    found.update(embedded(wanted, os.cpu_count() or 1))
    return assessor


def _with_embeddings(model: RoutingModel, apart: Apart, rows: Sequence[Row]) -> RoutingModel:
    import numpy as np

    from model_gateway.assess.embedding import beginning
    from model_gateway.learning.embedding import BYTES, embedded, with_embedding
    from model_gateway.vectors.engine import engine

    begun, threads = time.monotonic(), os.cpu_count() or 1
    begins = [beginning(row.prompt, BYTES) for row in rows]
    vectors = embedded(begins, threads)
    took = f"{time.monotonic() - begun:.0f} s with {threads} threads"
    typer.echo(f"embedded {len(vectors)} texts in {took} ({engine()}, their first {BYTES} bytes)\n")
    found, compared = with_embedding(model, apart, rows, np.array([vectors[begin] for begin in begins]), engine())
    typer.echo(f"{'on rows left out':<22}{'APGR':>8}{'Brier':>8}")
    typer.echo(f"{'words and measures':<22}{compared.apgr_words:>8.3f}{compared.brier_words:>8.3f}")
    typer.echo(f"{'with embeddings':<22}{compared.apgr:>8.3f}{compared.brier:>8.3f}")
    gained = compared.apgr - compared.apgr_words
    typer.echo(
        f"{'difference':<22}{gained:>+8.3f}{compared.brier - compared.brier_words:>+8.3f}   ± {compared.se:.3f} (SE)"
    )
    if gained < 2 * compared.se:
        typer.echo(
            "less than two standard errors: it may be chance, and a model without embeddings costs less to serve"
        )
    typer.echo("")
    return found


def _says_part(model: RoutingModel, without: bool) -> str:
    part = model.header.embedding
    if part is None:
        return "none"
    return "left out" if without else f"{part.engine}, the first {part.size} bytes"


def _needs_embeddings(wanted: str) -> None:
    """`wanted`: as a model's embedding part says it; empty: whichever is here."""
    from model_gateway.vectors.engine import PACKAGE, REMEDY, engine, unusable

    why = unusable(wanted or engine() or PACKAGE)
    if why:
        remedy = f"{REMEDY}; or measure it with --without-embeddings" if wanted else REMEDY
        raise CommandFailed(f"embeddings cannot be made: {why}", remedy)


def _needs_extra() -> None:
    missing = [name for name in ("matplotlib", "numpy", "scipy") if find_spec(name) is None]
    if missing:
        raise CommandFailed(
            f"this command needs {', '.join(missing)}", "pip install 'model-gateway[routing]', or `make routing`"
        )
