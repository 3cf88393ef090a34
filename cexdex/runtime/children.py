"""Child processes that end when their parent does, however it ends.

A parent killed with -9 runs no handler. Each child therefore inherits the reading end of a pipe whose writing end only
the parent holds: when the parent is gone, the kernel closes it and the child reads end-of-file. Our own Python children
watch it in a thread (`end_with_parent`); foreign programs run under `minder.py`, which watches it for them. Unlike
PR_SET_PDEATHSIG this works on macOS, and does not fire when merely the thread that spawned has ended.

Children get a session of their own: Ctrl-C reaches the parent alone, which then stops them in its own order.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

PARENT_FD = "CEXDEX_PARENT_FD"
REPORT_FD = "CEXDEX_REPORT_FD"
LOG_BYTES = 16 << 20
"""A child's log is moved to `.1` beyond this size."""

_MINDER = Path(__file__).with_name("minder.py")
_LOG_CHECK_SECONDS = 10.0
_ERROR_LINE = re.compile(r"\b(ERROR|FATAL|CRITICAL)\b|Exception|Error\b|Traceback|Killed|OutOfMemory")


class CannotStart(Exception):  # noqa: N818 - what it says is the condition, not a defect
    """One sentence for the user: what cannot be started and how to mend it. No traceback is shown for it."""


class ChildEnded(CannotStart):
    """A child ended by itself; the sentence quotes its last error lines and names its log."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process by pid and start time (seconds since the epoch, psutil's): together they name it for good."""

    name: str
    pid: int
    started: float

    def find(self) -> psutil.Process | None:
        """The process if it still runs; None when it is gone or its pid now names another."""
        try:
            found = psutil.Process(self.pid)
            same = abs(found.create_time() - self.started) < 1.0 and found.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return found if same else None


async def spawn(
    name: str,
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    grace: float = 5.0,
    minded: bool = False,
) -> Child:
    """Starts `argv`, its output going to `log` (the one before is kept as `.1`).

    `minded` is for programs that cannot watch our pipe themselves; `grace` is how many seconds such a program has
    between SIGTERM and SIGKILL once this process has died. Raises ChildEnded when the program cannot be started.
    """
    reading, writing = os.pipe()
    report_reading, report_writing = os.pipe()
    environment = {
        **(os.environ if env is None else env),
        PARENT_FD: str(reading),
        "PYTHONPATH": _python_path(),
    }
    passed = [reading]
    command = list(argv)
    if minded:
        environment[REPORT_FD] = str(report_writing)
        passed.append(report_writing)
        command = [sys.executable, "-I", "-S", str(_MINDER), str(grace), *argv]
    try:
        popen = _popen(command, environment, passed, log)
    except OSError as error:
        os.close(writing)
        os.close(report_reading)
        raise ChildEnded(f"{name} cannot be started: {command[0]}: {error.strerror}.") from error
    finally:
        os.close(reading)
        os.close(report_writing)
    child = Child(name, popen, log, writing)
    try:
        if minded:
            answer = await asyncio.to_thread(os.read, report_reading, 32)
            if not answer:
                await child.wait()
                raise child.ended_error()
            child.adopt(int(answer))
    except BaseException:
        await asyncio.shield(child.stop(0.0))
        raise
    finally:
        os.close(report_reading)
    return child


@dataclass(eq=False)
class Child:
    """A running child process. Made by `spawn`; belongs to the event loop it was spawned in."""

    name: str
    popen: subprocess.Popen[bytes] = field(repr=False)
    log: Path
    _pipe: int = field(repr=False)
    processes: list[Process] = field(default_factory=list)
    """What run.json names: the child itself and, when it is a minder, the program it minds."""

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = loop.create_future()
        self._program: Process | None = None
        self.processes.append(Process(self.name, self.popen.pid, _create_time(self.popen.pid)))
        threading.Thread(target=self._await_end, args=(loop,), name=f"wait {self.name}", daemon=True).start()
        self._bounding = loop.create_task(self._bound_log())

    @property
    def pid(self) -> int:
        """The program's pid: of the child itself, or of the program behind the minder."""
        return self._main.pid

    @property
    def started(self) -> float:
        """The program's start time, psutil's `create_time`."""
        return self._main.started

    @property
    def running(self) -> bool:
        return not self._ended.done()

    def adopt(self, pid: int) -> None:
        """Told by the minder which process it minds."""
        self._program = Process(self.name, pid, _create_time(pid))
        self.processes = [
            Process(f"{self.name} minder", self.popen.pid, self.processes[0].started),
            self._program,
        ]

    async def wait(self) -> int:
        """Waits for the end; the exit code, negative for a signal."""
        return await asyncio.shield(self._ended)

    async def stop(self, timeout: float = 10.0) -> int:
        """SIGTERM, and SIGKILL after `timeout` seconds; returns the exit code."""
        if self.running:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                return await asyncio.wait_for(asyncio.shield(self._ended), timeout)
            self._kill()
        return await asyncio.shield(self._ended)

    def last_error_lines(self, count: int = 3) -> list[str]:
        """The last lines of the log that look like errors; its last lines if none does."""
        try:
            with self.log.open("rb") as file:
                file.seek(max(0, self.log.stat().st_size - 65536))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        lines = [
            "".join(c if c.isprintable() else " " for c in line).strip()[:300]
            for line in text.splitlines()
            if line.strip()
        ]
        return ([line for line in lines if _ERROR_LINE.search(line)] or lines)[-count:]

    def ended_error(self) -> ChildEnded:
        """The sentence about its end."""
        code = self._ended.result() if self._ended.done() else None
        said = " | ".join(self.last_error_lines()) or "it said nothing"
        return ChildEnded(f"{self.name} ended with code {code}: {said} (its log is {self.log}).")

    @property
    def _main(self) -> Process:
        return self._program or self.processes[0]

    def _signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            self.popen.send_signal(number)

    def _kill(self) -> None:
        self._kill_program()
        self._signal(signal.SIGKILL)

    def _kill_program(self) -> None:
        if self._program is not None and self._program.find() is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._program.pid, signal.SIGKILL)

    def _await_end(self, loop: asyncio.AbstractEventLoop) -> None:
        code = self.popen.wait()
        # Whoever kills a minder must not leave its program behind.
        self._kill_program()
        os.close(self._pipe)
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(self._note_end, code)

    def _note_end(self, code: int) -> None:
        self._bounding.cancel()
        if not self._ended.done():
            self._ended.set_result(code)

    async def _bound_log(self) -> None:
        # The child appends (O_APPEND), so it goes on at the start of the emptied file.
        while True:
            await asyncio.sleep(_LOG_CHECK_SECONDS)
            with suppress(OSError):
                if self.log.stat().st_size > LOG_BYTES:
                    shutil.copyfile(self.log, _previous(self.log))
                    os.truncate(self.log, 0)


def end_with_parent(grace: float = 10.0) -> None:
    """For our own Python children, first thing in `main`: SIGTERM to ourselves when the parent dies, exit `grace` seconds later.

    Does nothing when the process was not started by `spawn`, as by hand in a terminal.
    """
    inherited = os.environ.pop(PARENT_FD, None)
    if inherited is None:
        return
    parent_fd = int(inherited)
    os.set_inheritable(parent_fd, False)
    threading.Thread(target=_watch_parent, args=(parent_fd, grace), name="parent watch", daemon=True).start()


def _watch_parent(parent_fd: int, grace: float) -> None:
    with suppress(OSError):
        while os.read(parent_fd, 1):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(1)


def _popen(
    command: list[str], env: Mapping[str, str], passed: list[int], log: Path
) -> subprocess.Popen[bytes]:
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(_previous(log))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            command,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=passed,
            start_new_session=True,
        )
    finally:
        os.close(output)


def _python_path() -> str:
    # Our own children find these packages also when they are run from a checkout that is not installed.
    ours = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH")]))


def _previous(log: Path) -> Path:
    return log.with_name(log.name + ".1")


def _create_time(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return 0.0  # ended already: names no process
