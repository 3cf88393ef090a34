"""Kafka's jars: fetched once from Maven's central repository, each held to the SHA-256 in jars.toml."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from cexdex.runtime.children import CannotStart

CENTRAL = "https://repo1.maven.org/maven2"
_AT_ONCE = 6
_ATTEMPTS = 3
_TIMEOUT_SECONDS = 60


class JarsMissing(CannotStart):
    """A jar is neither in the cache nor to be had from the repository."""


@dataclass(frozen=True, slots=True)
class Jar:
    coordinate: str
    """group:artifact:version."""
    sha256: str
    bytes: int

    @property
    def filename(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def default_cache() -> Path:
    """CEXDEX_CACHE, else `.cexdex/jars`: never inside a folder that is emptied."""
    return Path(os.environ.get("CEXDEX_CACHE") or ".cexdex/jars")


def fetch_jars(folder: Path, *, repository: str | None = None, progress: bool = True) -> list[Path]:
    """The paths of all of Kafka's jars in `folder`, those that are missing or damaged fetched first.

    Blocks; meant for a thread. `repository` is CEXDEX_MAVEN_REPO's or Maven's central one when not given. Several
    processes may fetch into the same folder. Raises JarsMissing.
    """
    jars = pinned_jars()
    folder = folder.absolute()
    missing = [jar for jar in jars if not _is_whole(folder / jar.filename, jar)]
    if missing:
        repository = (repository or os.environ.get("CEXDEX_MAVEN_REPO") or CENTRAL).rstrip("/")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _fetch_all(missing, folder, repository, progress)
        except OSError as error:
            raise JarsMissing(
                f"Kafka's jars cannot be written to {folder} ({error.strerror or error}); "
                "name another folder with CEXDEX_CACHE."
            ) from error
    return [folder / jar.filename for jar in jars]


@cache
def pinned_jars() -> tuple[Jar, ...]:
    """What jars.toml lists."""
    listed = tomllib.loads(Path(__file__).with_name("jars.toml").read_text())
    return tuple(Jar(**entry) for entry in listed["jar"])


def _fetch_all(jars: Sequence[Jar], folder: Path, repository: str, progress: bool) -> None:
    bar = Progress(
        TextColumn("Kafka's jars, once"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        console=Console(stderr=True),
        disable=not progress,
    )
    with bar, ThreadPoolExecutor(_AT_ONCE) as pool:
        task = bar.add_task("jars", total=sum(jar.bytes for jar in jars))

        def advance(count: int) -> None:
            bar.advance(task, count)

        fetches = [pool.submit(_fetch, jar, folder, repository, advance) for jar in jars]
        try:
            for fetch in fetches:
                fetch.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch(jar: Jar, folder: Path, repository: str, advance: Callable[[int], None]) -> None:
    fault = ""
    for _ in range(_ATTEMPTS):
        # Into a folder of its own, and renamed only when whole: a partial file is never taken for a jar.
        part = Path(tempfile.mkdtemp(prefix=f"{jar.filename}.", suffix=".part", dir=folder))
        received = 0

        def count(size: int) -> None:
            nonlocal received
            received += size
            advance(size)

        try:
            file = _resolve(jar, part, repository, count)
            if _is_whole(file, jar):
                file.replace(folder / jar.filename)
                return
            fault = "its SHA-256 is not the pinned one"
        except Exception as error:  # jgo raises RuntimeError for a 404 and requests' own for the network
            fault = _reason(error)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        advance(-received)
    raise JarsMissing(
        f"Kafka's {jar.filename} cannot be had from {repository}: {fault}; "
        "name a mirror that can be reached with CEXDEX_MAVEN_REPO."
    )


def _resolve(jar: Jar, part: Path, repository: str, count: Callable[[int], None]) -> Path:
    # Imported here: it is needed once, and costs 0.2 s.
    from jgo.maven import MavenContext, PythonResolver

    @contextmanager
    def update(filename: str, size: int) -> Iterator[Callable[[int], None]]:
        yield count

    group, artifact, version = jar.coordinate.split(":")
    context = MavenContext(
        resolver=PythonResolver(progress_callback=update),
        repo_cache=part,
        local_repos=[],
        remote_repos={"repository": repository},
        timeout=_TIMEOUT_SECONDS,
    )
    return Path(context.project(group, artifact).at_version(version).artifact().resolve())


def _is_whole(file: Path, jar: Jar) -> bool:
    try:
        if file.stat().st_size != jar.bytes:
            return False
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest() == jar.sha256
    except (FileNotFoundError, NotADirectoryError):
        return False


def _reason(error: Exception) -> str:
    text = str(error)
    if "not found in remote repositories" in text:
        return "it is not there"
    for name in ("CERTIFICATE_VERIFY_FAILED", "Name or service not known", "Connection refused", "timed out"):
        if name in text:
            return name.replace("CERTIFICATE_VERIFY_FAILED", "its certificate is not trusted here").lower()
    return f"{type(error).__name__}"
