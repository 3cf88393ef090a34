"""Kafka's jars: whole or not there, from where they are asked to come."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from embedded import jars
from embedded.jars import Jar, JarsMissing, fetch_jars, pinned_jars

ONE, TWO = b"one" * 50_000, b"two" * 10


def jar(name: str, content: bytes) -> Jar:
    return Jar(f"org.example:{name}:1.0", hashlib.sha256(content).hexdigest(), len(content))


class Repository:
    """A Maven repository on this machine."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut = 0
        """How many answers still break off in the middle."""
        repository = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                repository.asked.append(self.path)
                content = repository.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if repository.cut and self.path.endswith(".jar"):
                    repository.cut -= 1
                    content = content[: len(content) // 2]
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/maven2"

    def add(self, name: str, content: bytes) -> None:
        self.files[f"/maven2/org/example/{name}/1.0/{name}-1.0.jar"] = content


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Iterator[Repository]:
    repository = Repository()
    repository.add("one", ONE)
    repository.add("two", TWO)
    monkeypatch.setattr(jars, "pinned_jars", lambda: (jar("one", ONE), jar("two", TWO)))
    monkeypatch.setenv("CEXDEX_MAVEN_REPO", repository.url)
    thread = threading.Thread(target=repository.server.serve_forever, daemon=True)
    thread.start()
    yield repository
    repository.server.shutdown()
    repository.server.server_close()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_fetches_once_and_keeps(tmp_path: Path, repository: Repository) -> None:
    paths = fetch_jars(tmp_path / "cache", progress=False)
    assert [path.read_bytes() for path in paths] == [ONE, TWO]
    assert names(tmp_path / "cache") == ["one-1.0.jar", "two-1.0.jar"]
    repository.asked.clear()
    assert fetch_jars(tmp_path / "cache", progress=False) == paths
    assert repository.asked == []


def test_fetches_again_what_is_damaged_and_only_that(tmp_path: Path, repository: Repository) -> None:
    one, two = fetch_jars(tmp_path, progress=False)
    two.write_bytes(TWO[:-1] + b"x")
    repository.asked.clear()
    fetch_jars(tmp_path, progress=False)
    assert (one.read_bytes(), two.read_bytes()) == (ONE, TWO)
    assert {path for path in repository.asked if path.endswith(".jar")} == {
        "/maven2/org/example/two/1.0/two-1.0.jar"
    }


def test_a_broken_transfer_is_tried_again_and_never_taken_for_whole(
    tmp_path: Path, repository: Repository
) -> None:
    repository.cut = 2
    one, two = fetch_jars(tmp_path, progress=False)
    assert (one.read_bytes(), two.read_bytes()) == (ONE, TWO)
    assert names(tmp_path) == ["one-1.0.jar", "two-1.0.jar"]


def test_says_which_jar_is_not_to_be_had_and_what_to_do(tmp_path: Path, repository: Repository) -> None:
    del repository.files["/maven2/org/example/two/1.0/two-1.0.jar"]
    with pytest.raises(JarsMissing) as missing:
        fetch_jars(tmp_path, progress=False)
    assert str(missing.value) == (
        f"Kafka's two-1.0.jar cannot be had from {repository.url}: it is not there; "
        "name a mirror that can be reached with CEXDEX_MAVEN_REPO."
    )
    repository.add("two", b"another" * 4 + b"xx")
    with pytest.raises(
        JarsMissing, match=r"two-1.0.jar cannot be had from .*: its SHA-256 is not the pinned one;"
    ):
        fetch_jars(tmp_path, progress=False)
    assert "two-1.0.jar" not in names(tmp_path)
    assert not [name for name in names(tmp_path) if name.endswith(".part")]


def test_says_so_when_nobody_is_there(tmp_path: Path, repository: Repository) -> None:
    with pytest.raises(
        JarsMissing, match=r"from http://127.0.0.1:9/maven2: connection refused; name a mirror"
    ):
        fetch_jars(tmp_path, repository="http://127.0.0.1:9/maven2/", progress=False)


def test_says_so_when_the_cache_cannot_be_written(tmp_path: Path, repository: Repository) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        JarsMissing, match=r"cannot be written to .*/file/cache \(Not a directory\); name another folder with"
    ):
        fetch_jars(tmp_path / "file" / "cache", progress=False)


def test_the_pinned_list_is_a_closure_with_one_matching_log_binding() -> None:
    pinned = pinned_jars()
    assert len(pinned) == 46
    assert len({entry.filename for entry in pinned}) == 46
    assert all(len(entry.sha256) == 64 and entry.bytes > 0 for entry in pinned)
    filenames = {entry.filename for entry in pinned}
    assert {"slf4j-api-1.7.36.jar", "log4j-slf4j-impl-2.25.3.jar"} <= filenames
    assert not any(name.startswith("log4j-slf4j2-impl") for name in filenames)
