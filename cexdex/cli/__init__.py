"""Every command. The only place that may import the stages, and it does so only inside the command that needs one.

Exit codes: 0 ok, 1 failed, 2 wrong use or configuration. An error is one sentence; `--debug` shows where it came from.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cexdex import __version__
from cexdex.cli import health, known, query, recordings, stages, together
from cexdex.cli.situation import Situation
from cexdex.config import ConfigError
from cexdex.install import clashes

app = typer.Typer(
    name="cexdex",
    help="Real-time spreads and liquidity across crypto venues: exchanges to Kafka to ClickHouse.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for part in (together, stages, recordings, query, known, health):
    part.add_to(app)


@app.callback()
def options(
    context: typer.Context,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file.", show_default="./cexdex.toml")
    ] = None,
    data: Annotated[
        Path, typer.Option(envvar="CEXDEX_DATA", help="Data folder.", show_default="./.cexdex")
    ] = Path(".cexdex"),
    port_offset: Annotated[int, typer.Option(help="Moves every port by so many.")] = 0,
    debug: Annotated[bool, typer.Option(help="Show where an error came from.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    context.obj = Situation(config_file=config, data=data, port_offset=port_offset, debug=debug)


def main() -> None:
    """The console script."""
    if "--version" in sys.argv[1:2]:
        print(f"cexdex {__version__}")
        return
    for sentence in clashes():
        _complain(sentence)
        sys.exit(2)
    try:
        app(standalone_mode=False)
    except typer.Exit as finished:
        sys.exit(finished.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except typer.Abort:
        sys.exit(1)
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        _complain(_sentence(error))
        sys.exit(2 if isinstance(error, ConfigError) or _is_usage(error) else 1)


def _sentence(error: BaseException) -> str:
    """The first cause, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if _is_usage(error):
        return str(error.format_message())  # type: ignore[attr-defined]
    text = str(error) or type(error).__name__
    known_kind = type(error).__module__.split(".")[0] in (
        "cexdex",
        "ingest",
        "processors",
        "sinks",
        "embedded",
    )
    return text if known_kind else f"{text} ({type(error).__name__}; --debug shows where)"


def _is_usage(error: BaseException) -> bool:
    return hasattr(error, "format_message")


def _complain(sentence: str) -> None:
    Console(stderr=True, highlight=False).print(f"cexdex: {sentence}", markup=False, soft_wrap=True)
