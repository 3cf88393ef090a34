"""The data folder: who owns it, what runs in it, and how other commands find that.

One process owns a data folder at a time: it holds an exclusive lock on `<data>/lock` and describes itself in
`<data>/run.json`. The description counts only while the lock is held. Whoever takes the lock next ends exactly those
processes of a description left behind that still run with the same pid and start time; normally there are none, for
children end with their parent.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import msgspec
import psutil

from cexdex.runtime.children import CannotStart, Process

_TAKE_SECONDS = 0.5
"""A reader holds the lock for an instant to see whether it is free; that must not look like an owner."""
_END_SECONDS = 5.0


class DataFolderInUse(CannotStart):
    """Another process owns the data folder."""


class DiskFull(CannotStart):
    """Too little free space where the data folder lies."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """What runs in a data folder: enough for another command to connect to it. Holds no secret."""

    kind: str
    """`demo`, `up`, `replay`, or what else the owner calls itself."""
    pid: int
    started: float
    """Start time of the owner, psutil's `create_time`."""
    started_at: int
    """Microseconds since the epoch."""
    ports: dict[str, int] = {}
    kafka: str = ""
    """Bootstrap servers."""
    clickhouse_url: str = ""
    user: str = ""
    password_file: str = ""
    processes: tuple[Process, ...] = ()

    def password(self) -> str:
        """ClickHouse's password, from the file that holds it."""
        return Path(self.password_file).read_text().strip()


class DataFolder:
    """An owned data folder. `take` it, `release` it (or use it in `with`)."""

    def __init__(self, path: Path, lock: int, running: Running) -> None:
        self.path = path
        self._lock = lock
        self._running = running

    @classmethod
    def take(cls, path: Path, *, kind: str = "up") -> DataFolder:
        """Makes the folder if need be (0700), locks it and ends what a dead owner left running.

        Blocks for up to a few seconds. Raises DataFolderInUse, or CannotStart when the folder cannot be used.
        """
        path = path.absolute()
        _make_private(path)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if not _lock_within(lock, _TAKE_SECONDS):
                raise DataFolderInUse(
                    f"The data folder {path} is in use by process {_owner(lock) or 'unknown'}; "
                    "stop that one, or name another folder with CEXDEX_DATA or --data."
                )
            _end_leftovers(path)
            pid = os.getpid()
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{pid}\n".encode(), 0)
            running = Running(
                kind=kind,
                pid=pid,
                started=psutil.Process(pid).create_time(),
                started_at=time.time_ns() // 1000,
            )
            folder = cls(path, lock, running)
            folder._write()
        except BaseException:
            os.close(lock)
            raise
        return folder

    @property
    def running(self) -> Running:
        return self._running

    def log(self, name: str) -> Path:
        """Where the child of this name writes."""
        return self.path / "logs" / f"{name}.log"

    def announce(
        self,
        *,
        ports: dict[str, int] | None = None,
        kafka: str | None = None,
        clickhouse_url: str | None = None,
        user: str | None = None,
        password_file: Path | None = None,
    ) -> None:
        """Tells other commands how to connect; what is not given stays (ports are added)."""
        was = self._running
        self._running = msgspec.structs.replace(
            was,
            ports={**was.ports, **(ports or {})},
            kafka=was.kafka if kafka is None else kafka,
            clickhouse_url=was.clickhouse_url if clickhouse_url is None else clickhouse_url,
            user=was.user if user is None else user,
            password_file=was.password_file if password_file is None else str(password_file),
        )
        self._write()

    def add_processes(self, processes: Iterable[Process]) -> None:
        """Names children in run.json, so that the next owner can end them should we die without doing so."""
        self._running = msgspec.structs.replace(
            self._running, processes=(*self._running.processes, *processes)
        )
        self._write()

    def drop_processes(self, processes: Iterable[Process]) -> None:
        """Children that have ended."""
        gone = set(processes)
        kept = tuple(process for process in self._running.processes if process not in gone)
        self._running = msgspec.structs.replace(self._running, processes=kept)
        self._write()

    def empty(self) -> None:
        """Deletes all that is in the folder except the lock and run.json: the demo starts from nothing."""
        for entry in self.path.iterdir():
            if entry.name in ("lock", "run.json"):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()

    def release(self) -> None:
        """Gives the folder up; run.json goes with it."""
        if self._lock < 0:
            return
        (self.path / "run.json").unlink(missing_ok=True)
        os.ftruncate(self._lock, 0)
        os.close(self._lock)
        self._lock = -1

    def __enter__(self) -> DataFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _write(self) -> None:
        part = self.path / "run.json.part"
        part.write_bytes(msgspec.json.format(msgspec.json.encode(self._running), indent=1))
        part.chmod(0o600)
        part.replace(self.path / "run.json")


def read_running(path: Path) -> Running | None:
    """What runs in this data folder now; None when nothing does."""
    try:
        lock = os.open(path / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _described(path)
    else:
        return None
    finally:
        os.close(lock)


def free_bytes(path: Path) -> int:
    """Free bytes for us on the disk where `path` lies, or will lie."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def require_free(path: Path, needed: int, purpose: str) -> None:
    """Raises DiskFull when fewer than `needed` bytes are free; `purpose` is what needs them, as in "the demo"."""
    free = free_bytes(path)
    if free < needed:
        raise DiskFull(
            f"The disk of {path} has {free / 1e9:.1f} GB free and {purpose} needs {needed / 1e9:.1f} GB; "
            "free some, or name a folder on another disk with CEXDEX_DATA or --data."
        )


def _make_private(path: Path) -> None:
    remedy = "name another folder with CEXDEX_DATA or --data"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode
        if mode & stat.S_ISVTX:  # a shared folder such as /tmp: making it 0700 would lock everybody else out
            raise CannotStart(f"The data folder {path} is a folder shared by all users; {remedy}.")
        if stat.S_IMODE(mode) != 0o700:
            path.chmod(0o700)
    except FileExistsError as error:
        raise CannotStart(f"The data folder {path} is a file; {remedy}.") from error
    except OSError as error:
        raise CannotStart(f"The data folder {path} cannot be used ({error.strerror}); {remedy}.") from error


def _lock_within(lock: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _owner(lock: int) -> str:
    return os.pread(lock, 32, 0).decode("ascii", "replace").strip()


def _described(path: Path) -> Running | None:
    try:
        return msgspec.json.decode((path / "run.json").read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None  # being written at this moment, or by a version that says something else


def _end_leftovers(path: Path) -> None:
    left = _described(path)
    if left is None:
        return
    alive = [found for process in left.processes if (found := process.find()) is not None]
    for process in alive:
        _quietly(process.terminate)
    _, stubborn = psutil.wait_procs(alive, timeout=_END_SECONDS)
    for process in stubborn:
        _quietly(process.kill)
    psutil.wait_procs(stubborn, timeout=_END_SECONDS)


def _quietly(signal: object) -> None:
    try:
        signal()  # type: ignore[operator]
    except psutil.NoSuchProcess:
        pass
