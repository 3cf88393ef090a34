"""The ports of the embedded parts, and the check that they are free before anything is started."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from cexdex.runtime.children import CannotStart

LOOPBACK = "127.0.0.1"


class PortTaken(CannotStart):
    """Another program listens there."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports on 127.0.0.1; 0 chooses a free one, for tests."""

    kafka: int = 9092
    controller: int = 9093
    clickhouse: int = 8123

    @classmethod
    def offset(cls, by: int) -> Ports:
        """All moved by `--port-offset`."""
        usual = cls()
        return cls(usual.kafka + by, usual.controller + by, usual.clickhouse + by)

    @classmethod
    def free(cls) -> Ports:
        """Free ones, chosen by the system."""
        return cls(0, 0, 0).chosen()

    def chosen(self) -> Ports:
        """The same with each 0 replaced by a free port."""
        return Ports(*_free_ports(self.kafka, self.controller, self.clickhouse))


def require_free_port(port: int, use: str) -> None:
    """Raises PortTaken when something listens on the port; `use` says what we want it for, as in "Kafka"."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as error:
            fault = "taken" if error.errno == errno.EADDRINUSE else f"not to be had ({error.strerror})"
            raise PortTaken(
                f"Port {port}, which {use} listens on, is {fault}; "
                "stop the program that uses it, or move all ports with --port-offset."
            ) from error
        except OverflowError as error:
            raise PortTaken(f"Port {port}, for {use}, is no port; choose a smaller --port-offset.") from error


def _free_ports(*wanted: int) -> list[int]:
    # All are held open until all are chosen, so that no port is given twice.
    held: list[socket.socket] = []
    try:
        ports = []
        for port in wanted:
            if port == 0:
                chosen = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                held.append(chosen)
                chosen.bind((LOOPBACK, 0))
                port = chosen.getsockname()[1]
            ports.append(port)
        return ports
    finally:
        for chosen in held:
            chosen.close()
