"""Every command on the pages is run, against one demo, except those marked as needing what is not here."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass, field
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from cexdex.cli import app
from cexdex.runtime.datafolder import read_running
from tests.docs.page import PAGES, Command, blocks, commands
from tests.house.tree import ROOT

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

OFFSET = 2_000 + os.getpid() % 500 * 20
PORTS = re.compile(r"\b(?:8123|9092)\b")
SHOWN_S = 8.0
ALL = {command.text: command for page in PAGES for command in commands(page)}
DURING = [command for command in ALL.values() if command.runs == "during"]
AFTER = [command for command in ALL.values() if command.runs == "after"]


def name_of(command: Command) -> str:
    return f"{command.page}: {command.text[:60]}"


@dataclass
class Answer:
    said: str
    fault: str | None = None


@dataclass
class Desk:
    """A folder in which a reader of the pages sits, beside a demo."""

    path: Path
    environment: dict[str, str]
    answers: dict[str, Answer] = field(default_factory=dict)
    summary: str = ""

    def run(self, command: Command) -> Answer:
        """What the line answers, with this demo's ports. One that runs for ever is ended after its first line."""
        text = PORTS.sub(lambda found: str(int(found.group()) + OFFSET), command.text)
        if text.startswith("cexdex "):
            return self.cexdex(text)
        if text.startswith("export "):
            text = f"{text}; printenv {text.removeprefix('export ').partition('=')[0]}"
        if "until Ctrl-C" in command.marks:
            text = f"set +o pipefail; {text} | head -n 1"
        return self.shell(text)

    def cexdex(self, line: str) -> Answer:
        """What a line of cexdex says. It is run in this process: starting one takes longer than most commands do."""
        said, fault = TextIOWrapper(BytesIO(), encoding="utf-8", write_through=True), None
        with chdir(self.path), redirect_stdout(said):
            try:
                app(shlex.split(line)[1:], standalone_mode=False)
            except (Exception, SystemExit) as error:
                fault = f"{type(error).__name__}: {error}"
        buffer = said.detach()
        assert isinstance(buffer, BytesIO)
        return Answer(buffer.getvalue().decode(), fault)

    def shell(self, text: str) -> Answer:
        ran = subprocess.run(
            ["bash", "-o", "pipefail", "-c", text],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Answer(ran.stdout, ran.stderr if ran.returncode else None)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, jar_cache: Path) -> Iterator[Desk]:
    """A demo has run, and what is to be asked while it runs has been asked."""
    path = tmp_path_factory.mktemp("desk")
    for name in ("examples", "tests", "cexdex.toml"):
        (path / name).symlink_to(ROOT / name)
    tools = path / "bin"
    tools.mkdir()
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tools / "python").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CEXDEX_")]:
            patch.delenv(name)
        patch.setenv("CEXDEX_CACHE", str(jar_cache.absolute()))
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        desk = Desk(path, dict(os.environ))
        _show(desk)
        yield desk


def _show(desk: Desk) -> None:
    with (desk.path / "said").open("w+") as said:
        words = [sys.executable, "-m", "cexdex", "--port-offset", str(OFFSET), "demo"]
        demo = subprocess.Popen(words, cwd=desk.path, env=desk.environment, stdout=said, stderr=said)
        try:
            _wait_for_spreads(desk, demo)
            began = time.monotonic()
            desk.answers = {command.text: _answered(desk, command) for command in DURING}
            time.sleep(max(0.0, SHOWN_S - time.monotonic() + began))
        finally:
            demo.send_signal(signal.SIGINT)
            demo.wait(90)
        said.seek(0)
        desk.summary = said.read()


def _answered(desk: Desk, command: Command) -> Answer:
    """What is asked of a market that has just begun may have nothing to tell yet: an alert, a trade."""
    until = time.monotonic() + 30
    while True:
        answer = desk.run(command)
        if answer.fault is not None or answer.said.strip() or time.monotonic() > until:
            return answer
        time.sleep(0.5)


def _wait_for_spreads(desk: Desk, demo: subprocess.Popen[bytes]) -> None:
    """Returns when a spread that can be believed is stored."""
    until = time.monotonic() + 90
    while (running := read_running(desk.path / ".cexdex/demo")) is None or "ingest" not in running.ports:
        assert demo.poll() is None, (desk.path / "said").read_text()
        assert time.monotonic() < until, "the demo did not start"
        time.sleep(0.2)
    ask = 'cexdex sql --database demo --format TSV "SELECT count() FROM spreads WHERE valid"'
    while desk.cexdex(ask).said.strip() in ("", "0"):
        assert time.monotonic() < until, "the demo shows no spread"
        time.sleep(0.5)


def test_the_demo_ends_with_a_summary(desk: Desk) -> None:
    assert re.search(r"planted spreads found: [1-9]\d* of \d+", desk.summary), desk.summary


@pytest.mark.parametrize("command", DURING, ids=name_of)
def test_what_is_asked_while_the_demo_runs_is_answered(desk: Desk, command: Command) -> None:
    answer = desk.answers[command.text]
    assert answer.fault is None
    assert answer.said.strip()


@pytest.mark.parametrize("command", AFTER, ids=name_of)
def test_what_is_asked_after_it_is_answered(desk: Desk, command: Command) -> None:
    answer = desk.run(command)
    assert answer.fault is None
    assert answer.said.strip()


def test_the_demos_own_queries_answer(desk: Desk) -> None:
    queries = re.findall(r'cexdex sql --database demo ".*?"', desk.summary, flags=re.DOTALL)
    assert len(queries) == 3
    answers = [desk.cexdex(query) for query in queries]
    assert [answer.fault for answer in answers] == [None, None, None]
    assert all(len(answer.said.splitlines()) > 1 for answer in answers)


def test_whole_programs_on_the_pages_run() -> None:
    """Blocks that begin with an import; the others are excerpts."""
    programs = [b for page in PAGES for b in blocks(page.read_text(), "python") if b.startswith("from ")]
    assert len(programs) == 2
    for program in programs:
        ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
