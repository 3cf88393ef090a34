"""Starts one foreign program and ends it, with all it started, when this program's parent dies.

A Python child watches its parent's pipe itself (`children.end_with_parent`); Java cannot, so this small process stands
in between. It is run by path under `python -I -S`, hence it imports nothing of ours and starts in some 20 ms.

    minder.py GRACE COMMAND...

CEXDEX_PARENT_FD is the pipe that closes with the parent; the command's pid is written to CEXDEX_REPORT_FD.
"""

import os
import signal
import subprocess
import sys
import threading
import time


def main(arguments: list[str]) -> int:
    grace, command = float(arguments[0]), arguments[1:]
    parent_fd = int(os.environ.pop("CEXDEX_PARENT_FD"))
    report_fd = int(os.environ.pop("CEXDEX_REPORT_FD"))
    os.set_inheritable(parent_fd, False)
    os.set_inheritable(report_fd, False)

    # The handler stands before the program does, so that no SIGTERM in between leaves it running unminded.
    group: list[int] = []
    ending = threading.Event()

    def end(*_: object) -> None:
        ending.set()
        _signal_group(group, signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    try:
        process = subprocess.Popen(command, process_group=0, stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"ERROR {command[0]} cannot be started: {error.strerror}\n")
        return 127
    group.append(process.pid)
    if ending.is_set():
        _signal_group(group, signal.SIGTERM)
    os.write(report_fd, f"{process.pid}\n".encode())
    os.close(report_fd)
    threading.Thread(target=_end_with_parent, args=(parent_fd, group, grace), daemon=True).start()
    code = process.wait()
    return code if code >= 0 else 128 - code


def _end_with_parent(parent_fd: int, group: list[int], grace: float) -> None:
    """Blocks until the pipe closes, then SIGTERM, and SIGKILL `grace` seconds later."""
    try:
        while os.read(parent_fd, 1):
            pass
    except OSError:
        pass
    _signal_group(group, signal.SIGTERM)
    time.sleep(grace)
    _signal_group(group, signal.SIGKILL)


def _signal_group(group: list[int], number: int) -> None:
    try:
        for leader in group:
            os.killpg(leader, number)
    except (ProcessLookupError, PermissionError):
        pass  # ended a moment ago (macOS answers EPERM for a zombie's group)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
