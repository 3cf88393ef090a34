"""What an instrument's feed says besides its quotes and ladders."""

from __future__ import annotations

from typing import Literal

from cexdex.records.instruments import Instrument
from cexdex.records.record import Micros, Reason, State
from cexdex.records.reference_quotes import ReferenceQuote
from cexdex.records.venue_status import VenueStatus
from ingest.inverted import Touch


def reference_quote(
    instrument: Instrument,
    touch: Touch,
    now: Micros,
    *,
    event_time: Micros | None,
    session: int,
    changed_at: Micros,
    verified_at: Micros,
    state: State,
    reason: Reason | None,
) -> ReferenceQuote:
    """A rate source's quote once more, for the rates."""
    return ReferenceQuote(
        market=instrument.market,
        venue=instrument.venue,
        instrument=instrument.instrument,
        base_asset=instrument.base_asset,
        quote_asset=instrument.quote_asset,
        event_time=event_time,
        received_at=now,
        bid=touch[0],
        ask=touch[2],
        taker_fee_bps=instrument.taker_fee_bps,
        session=session,
        changed_at=changed_at,
        verified_at=verified_at,
        state=state,
        reason=reason,
    )


def status(
    instrument: Instrument,
    kind: Literal["stale", "gap", "checksum_failed"],
    now: Micros,
    reason: str,
    lost: int | None = None,
) -> VenueStatus:
    """What befell an instrument."""
    return VenueStatus(
        market=instrument.market,
        venue=instrument.venue,
        instrument=instrument.instrument,
        kind=kind,
        started_at=now,
        received_at=now,
        reason=reason,
        lost=lost,
    )
