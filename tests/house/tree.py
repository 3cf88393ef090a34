"""The files of the repository, as the rules see them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("ingest", "processors", "sinks", "api", "embedded", "simulator")
PACKAGES = ("cexdex", *STAGES)
NOT_OURS = {".git", ".cexdex", ".hypothesis", "__pycache__", "node_modules", "build", "dist"}
CACHES = ("_cache", ".egg-info")


def files(root: Path = ROOT) -> Iterator[Path]:
    """Every file that is ours: no environments, caches or data folders."""
    for path in sorted(root.iterdir()):
        if path.name in NOT_OURS or path.name.startswith(".venv") or path.name.endswith(CACHES):
            continue
        if path.is_dir():
            if not (path / "pyvenv.cfg").exists():
                yield from files(path)
        elif not path.is_symlink():
            yield path


def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found
