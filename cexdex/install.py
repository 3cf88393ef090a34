"""Whether this environment holds our packages and nobody else's of the same names.

The stages are packages with ordinary names. Another distribution that brings one of them overwrites ours or stands in
front of it without a word (docs/decisions/0008), so the command line asks here before it imports a stage.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import distributions

PACKAGES = ("cexdex", "ingest", "processors", "sinks", "embedded", "simulator")


def clashes(owners: Mapping[str, Sequence[str]] | None = None) -> list[str]:
    """A sentence with the remedy for each package of ours that another distribution brought too; empty when all is well.

    owners: which distributions bring each package of ours; those of this environment when not given.
    """
    owners = brought() if owners is None else owners
    return [
        f"the distribution {other} brought a package {package!r} that stands in the place of ours:"
        f" pip uninstall {other}, then install cexdex anew, best in an environment of its own"
        for package in PACKAGES
        for other in sorted({name for name in owners.get(package, ()) if name != "cexdex"})
    ]


def brought() -> dict[str, list[str]]:
    """Each package of ours and the distributions of this environment that list a file of it.

    The lists of files are searched as text: parsing them all, as importlib.metadata does, takes ten times as long.
    """
    found: dict[str, list[str]] = {}
    for distribution in distributions():
        listed = "\n" + (
            distribution.read_text("RECORD") or distribution.read_text("installed-files.txt") or ""
        )
        for package in PACKAGES:
            if f"\n{package}/" in listed or f"\n{package}.py," in listed or f"\n../{package}/" in listed:
                found.setdefault(package, []).append(distribution.metadata["Name"])
    return found
