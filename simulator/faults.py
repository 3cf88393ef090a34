"""What venues can be told to do wrong, and until when."""

from dataclasses import dataclass, field

from simulator.listings import listed

KINDS = ("gap", "checksum", "silence", "disconnect", "shutdown", "crossed", "refuse")
_SECONDS = {"silence": 5.0, "shutdown": 10.0, "crossed": 0.5, "refuse": 5.0}
_NEEDS_INSTRUMENT = {"gap", "checksum", "crossed"}


class UnknownFaultError(ValueError):
    pass


@dataclass(frozen=True, slots=True)
class Fault:
    venue: str
    kind: str
    instrument: str | None = None
    seconds: float | None = None
    at: float | None = None
    """Seconds after the start, in a script; None is now."""

    @property
    def lasts(self) -> float:
        return _SECONDS.get(self.kind, 0.0) if self.seconds is None else self.seconds


def fault_of(request: object) -> Fault:
    """A fault from a control request or a line of a script, checked."""
    if not isinstance(request, dict):
        raise UnknownFaultError("a fault is an object with venue and kind")
    unknown = set(request) - {"venue", "kind", "instrument", "seconds", "at"}
    if unknown:
        raise UnknownFaultError(f"unknown field {sorted(unknown)[0]}")
    fault = Fault(
        venue=str(request.get("venue", "")),
        kind=str(request.get("kind", "")),
        instrument=None if request.get("instrument") is None else str(request["instrument"]),
        seconds=_seconds(request, "seconds"),
        at=_seconds(request, "at"),
    )
    check(fault)
    return fault


def check(fault: Fault) -> None:
    if fault.venue not in ("binance", "coinbase", "kraken"):
        raise UnknownFaultError(f"unknown venue {fault.venue!r}")
    if fault.kind not in KINDS:
        raise UnknownFaultError(f"unknown kind {fault.kind!r}; known: {', '.join(KINDS)}")
    if fault.kind == "checksum" and fault.venue != "kraken":
        raise UnknownFaultError(f"{fault.venue} sends no checksums")
    if fault.instrument is None:
        if fault.kind in _NEEDS_INSTRUMENT:
            raise UnknownFaultError(f"{fault.kind} needs an instrument")
        return
    try:
        listing = listed(fault.instrument)
    except KeyError as error:
        raise UnknownFaultError(str(error.args[0])) from None
    if listing.venue != fault.venue:
        raise UnknownFaultError(f"{fault.instrument} is not on {fault.venue}")


def _seconds(request: dict[str, object], name: str) -> float | None:
    value = request.get(name)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or not 0 <= value < 1e6:
        raise UnknownFaultError(f"{name} must be a number of seconds")
    return float(value)


@dataclass(slots=True)
class Disturbance:
    """What one venue still has to do wrong."""

    _silent_until: dict[str, int] = field(default_factory=dict)
    _gaps: set[str] = field(default_factory=set)
    _checksums: set[str] = field(default_factory=set)
    refused_until: int = 0

    def silence(self, instrument: str, until: int) -> None:
        self._silent_until[instrument] = until

    def gap(self, instrument: str) -> None:
        self._gaps.add(instrument)

    def checksum(self, instrument: str) -> None:
        self._checksums.add(instrument)

    def is_silent(self, instrument: str, now: int) -> bool:
        return bool(self._silent_until) and now < self._silent_until.get(instrument, 0)

    def take_gap(self, instrument: str) -> bool:
        """Whether this is the update to lose; once per fault."""
        return _take(self._gaps, instrument)

    def take_checksum(self, instrument: str) -> bool:
        return _take(self._checksums, instrument)


def _take(waiting: set[str], instrument: str) -> bool:
    if instrument not in waiting:
        return False
    waiting.remove(instrument)
    return True
