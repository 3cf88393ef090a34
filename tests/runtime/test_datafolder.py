"""The data folder: one owner, found by others, mended after a dead one."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from cexdex.runtime import datafolder
from cexdex.runtime.children import CannotStart, Process
from cexdex.runtime.datafolder import (
    DataFolder,
    DataFolderInUse,
    DiskFull,
    free_bytes,
    read_running,
    require_free,
)

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]


def test_is_private_and_describes_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "new" / "data"
    assert read_running(path) is None
    with DataFolder.take(path, kind="demo") as folder:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        assert stat.S_IMODE((path / "run.json").stat().st_mode) == 0o600
        folder.announce(ports={"kafka": 9092}, kafka="127.0.0.1:9092", user="default")
        folder.announce(ports={"clickhouse": 8123}, clickhouse_url="http://127.0.0.1:8123")
        running = read_running(path)
        assert running == folder.running
        assert running is not None
        assert (running.kind, running.pid, running.kafka, running.clickhouse_url, running.ports) == (
            "demo",
            os.getpid(),
            "127.0.0.1:9092",
            "http://127.0.0.1:8123",
            {"kafka": 9092, "clickhouse": 8123},
        )
    assert read_running(path) is None


def test_a_second_owner_is_refused_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "data"
    with DataFolder.take(path), pytest.raises(DataFolderInUse) as refused:
        DataFolder.take(path)
    assert str(refused.value) == (
        f"The data folder {path} is in use by process {os.getpid()}; "
        "stop that one, or name another folder with CEXDEX_DATA or --data."
    )
    DataFolder.take(path).release()


def test_reading_does_not_get_in_an_owners_way(tmp_path: Path) -> None:
    path = tmp_path / "data"
    DataFolder.take(path).release()
    for _ in range(20):
        assert read_running(path) is None
        DataFolder.take(path).release()


def test_ends_exactly_what_a_dead_owner_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datafolder, "_END_SECONDS", 2.0)
    path = tmp_path / "data"
    left, stranger = (subprocess.Popen(SLEEPER, stdout=subprocess.PIPE) for _ in range(2))
    try:
        with DataFolder.take(path) as folder:
            folder.add_processes(
                [
                    Process("left", left.pid, psutil.Process(left.pid).create_time()),
                    # The pid of a process that ended long ago, now another's.
                    Process("gone", stranger.pid, psutil.Process(stranger.pid).create_time() - 100.0),
                ]
            )
            description = (path / "run.json").read_bytes()
        (path / "run.json").write_bytes(description)  # as after kill -9: nobody took it away
        assert read_running(path) is None  # it does not count: nobody holds the lock
        with DataFolder.take(path) as folder:
            assert left.poll() is not None
            assert stranger.poll() is None
            assert folder.running.processes == ()
    finally:
        for process in (left, stranger):
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def test_processes_that_ended_are_dropped(tmp_path: Path) -> None:
    one, two = Process("one", 1, 1.0), Process("two", 2, 2.0)
    with DataFolder.take(tmp_path / "data") as folder:
        folder.add_processes([one, two])
        folder.drop_processes([one])
        running = read_running(folder.path)
        assert running is not None
        assert running.processes == (two,)


def test_a_description_from_another_version_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "data"
    DataFolder.take(path).release()
    (path / "run.json").write_bytes(msgspec.json.encode({"pid": "not a number"}))
    DataFolder.take(path).release()


def test_is_emptied_but_for_lock_and_description(tmp_path: Path) -> None:
    with DataFolder.take(tmp_path / "data") as folder:
        (folder.path / "kafka" / "log").mkdir(parents=True)
        (folder.path / "kafka" / "log" / "a").write_text("a")
        (folder.path / "clickhouse.password").write_text("secret")
        outside = tmp_path / "outside"
        outside.mkdir()
        (outside / "kept").write_text("kept")
        (folder.path / "link").symlink_to(outside)
        folder.empty()
        assert sorted(entry.name for entry in folder.path.iterdir()) == ["lock", "run.json"]
        assert (outside / "kept").read_text() == "kept"


def test_says_when_the_folder_cannot_be_one(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(
        CannotStart,
        match=rf"^The data folder {file} is a file; name another folder with CEXDEX_DATA or --data.$",
    ):
        DataFolder.take(file)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(CannotStart, match="is a folder shared by all users"):
        DataFolder.take(shared)


def test_refuses_a_full_disk_in_one_sentence(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not" / "yet") > 0
    require_free(tmp_path, 1, "the demo")
    with pytest.raises(DiskFull) as refused:
        require_free(tmp_path, 10**18, "the demo")
    assert "and the demo needs 1000000000.0 GB; free some, or name a folder" in str(refused.value)
