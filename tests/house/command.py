"""Whether the command line would take some words."""

from __future__ import annotations

import typer
from typer.core import TyperGroup

from cexdex.cli import app


def understood(arguments: list[str]) -> None:
    """Raises click's UsageError where the command line would refuse these arguments; runs nothing."""
    root = typer.main.get_command(app)
    assert isinstance(root, TyperGroup)
    context = root.make_context("cexdex", list(arguments))
    name, command, rest = root.resolve_command(context, [*context._protected_args, *context.args])
    assert command is not None, name
    command.make_context(name, rest, parent=context)
