"""Children: they end with their parent, also when that is killed; their logs are bounded and quoted."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cexdex.runtime import children
from cexdex.runtime.children import ChildEnded, Process, spawn

REPOSITORY = Path(__file__).resolve().parents[2]

# Ignores SIGTERM, as a program that hangs does.
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
OURS = """
import signal, sys, time
from cexdex.runtime.children import end_with_parent
end_with_parent(grace=1.0)
print("up", flush=True)
time.sleep(600)
"""
PARENT = """
import asyncio, sys
from pathlib import Path
from cexdex.runtime.children import spawn
async def main():
    folder, ours, stubborn = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    one = await spawn("ours", [sys.executable, "-c", ours], log=folder / "ours.log")
    two = await spawn("minded", [sys.executable, "-c", stubborn], log=folder / "minded.log", minded=True, grace=0.5)
    while not all((folder / name).read_text() for name in ("ours.log", "minded.log")):
        await asyncio.sleep(0.02)
    print(*(process.pid for child in (one, two) for process in child.processes), flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


async def wait_until_gone(pids: list[int], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while alive := [pid for pid in pids if _alive(pid)]:
        assert time.monotonic() < deadline, f"still alive: {alive}"
        await asyncio.sleep(0.05)


def _alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def wait_for_text(log: Path, text: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while text not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline, f"{log} does not say {text!r}"
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_children_end_when_their_parent_is_killed(tmp_path: Path, number: int) -> None:
    parent = subprocess.Popen(  # noqa: ASYNC220 - starting it does not block
        [sys.executable, "-c", PARENT, str(tmp_path), OURS, STUBBORN], stdout=subprocess.PIPE, cwd=REPOSITORY
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await asyncio.to_thread(parent.stdout.readline)).split()]
    assert len(pids) == 3
    assert all(_alive(pid) for pid in pids)
    parent.send_signal(number)
    parent.wait()
    parent.stdout.close()
    await wait_until_gone(pids)


async def test_a_program_ends_when_its_minder_is_killed(tmp_path: Path) -> None:
    child = await spawn("minded", [sys.executable, "-c", STUBBORN], log=tmp_path / "log", minded=True)
    await wait_for_text(tmp_path / "log", "up")
    minder, program = child.processes
    assert (minder.name, program.name, child.pid) == ("minded minder", "minded", program.pid)
    os.kill(minder.pid, signal.SIGKILL)
    assert await child.wait() == -9
    await wait_until_gone([program.pid])


@pytest.mark.parametrize("minded", [False, True])
async def test_stop_kills_what_does_not_end(tmp_path: Path, minded: bool) -> None:
    child = await spawn("stubborn", [sys.executable, "-c", STUBBORN], log=tmp_path / "log", minded=minded)
    await wait_for_text(tmp_path / "log", "up")
    began = time.monotonic()
    await child.stop(0.3)
    assert 0.3 <= time.monotonic() - began < 5
    assert not child.running
    await wait_until_gone([process.pid for process in child.processes])
    assert await child.stop(0.3) == await child.wait()


@pytest.mark.parametrize("minded", [False, True])
async def test_stop_lets_a_child_end_by_itself(tmp_path: Path, minded: bool) -> None:
    polite = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('up', flush=True)\ntime.sleep(600)"
    )
    child = await spawn("polite", [sys.executable, "-c", polite], log=tmp_path / "log", minded=minded)
    await wait_for_text(tmp_path / "log", "up")
    assert await child.stop(10.0) == 7


async def test_a_death_is_told_with_its_last_error_lines(tmp_path: Path) -> None:
    dying = (
        "import sys; print('starting'); print('ERROR the \\x1b[31mdisk is full'); print('bye'); sys.exit(3)"
    )
    child = await spawn("broken", [sys.executable, "-c", dying], log=tmp_path / "log")
    assert await child.wait() == 3
    assert str(child.ended_error()) == (
        f"broken ended with code 3: ERROR the  [31mdisk is full (its log is {tmp_path / 'log'})."
    )


@pytest.mark.parametrize("minded", [False, True])
async def test_what_cannot_be_started_is_one_sentence(tmp_path: Path, minded: bool) -> None:
    with pytest.raises(ChildEnded, match=r"/no/such/program.*No such file or directory"):
        await spawn("absent", ["/no/such/program"], log=tmp_path / "log", minded=minded)


async def test_logs_are_bounded_and_the_one_before_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "LOG_BYTES", 1000)
    monkeypatch.setattr(children, "_LOG_CHECK_SECONDS", 0.05)
    log = tmp_path / "log"
    log.write_text("of the run before")
    talking = "import sys, time\nprint('x' * 2000, flush=True)\ntime.sleep(1)\nprint('after', flush=True)\ntime.sleep(600)"
    child = await spawn("talking", [sys.executable, "-c", talking], log=log)
    assert (tmp_path / "log.1").read_text() == "of the run before"
    await wait_for_text(log, "after")
    assert log.read_text() == "after\n"
    assert (tmp_path / "log.1").read_text() == "x" * 2000 + "\n"
    await child.stop(5.0)


def test_a_pid_that_names_another_process_now_is_not_found() -> None:
    started = psutil.Process().create_time()
    assert Process("me", os.getpid(), started).find() is not None
    assert Process("me", os.getpid(), started - 50.0).find() is None
    assert Process("nobody", 2**22 + 7, started).find() is None
