"""From a venue's listing to instruments, and which of them are followed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time
from typing import Literal

from cexdex.config import Config
from cexdex.config import Venue as VenueConfig
from cexdex.domain.assets import Assets, clean_symbol
from cexdex.records.instruments import Instrument
from cexdex.records.record import Micros
from ingest.feed import Listed


def listed_instrument(
    venue: str,
    symbol: str,
    base: str,
    quote: str,
    config: VenueConfig,
    assets: Assets,
    now: Micros,
    *,
    status: Literal["trading", "halted"],
    alias_of: str | None = None,
    price_increment: float | None = None,
    size_increment: float | None = None,
    min_size: float | None = None,
    min_notional: float | None = None,
    max_size: float | None = None,
    price_digits: int | None = None,
    size_digits: int | None = None,
) -> Listed | None:
    """One line of a listing; None when its names are not such as may be shown (DESIGN §12)."""
    base_asset, quote_asset = assets.named(venue, base), assets.named(venue, quote)
    if not base_asset or not quote_asset or not clean_symbol(symbol.replace(" ", "")):
        return None
    market, inverted = assets.market(base_asset, quote_asset)
    instrument = f"{venue}:{base_asset}-{quote_asset}"
    special = config.fees.get(instrument.split(":", 1)[1])
    return Listed(
        Instrument(
            market=market,
            venue=venue,
            instrument=instrument,
            symbol=symbol,
            base_asset=base_asset,
            quote_asset=quote_asset,
            inverted=inverted,
            alias_of=alias_of,
            price_increment=None if inverted else price_increment or None,
            size_increment=None if inverted else size_increment or None,
            min_size=None if inverted else min_size or None,
            min_notional=None if inverted else min_notional or None,
            max_size=None if inverted else max_size or None,
            taker_fee_bps=config.taker_fee_bps if special is None else special,
            maker_fee_bps=config.maker_fee_bps,
            fee_source=config.fee_source,
            fee_as_of=int(datetime.combine(config.fee_as_of, time(), UTC).timestamp()) * 1_000_000,
            status=status,
            received_at=now,
        ),
        price_digits,
        size_digits,
    )


def followed(listed: Iterable[Listed], config: Config, assets: Assets) -> list[Listed]:
    """What is subscribed: the instruments of the configured markets in the configured quote assets, and those that say
    what these quote assets are worth. An alias is listed, never subscribed."""
    markets, money = set(config.markets), set(config.quote_assets)
    chosen = []
    for entry in listed:
        instrument = entry.instrument
        if instrument.alias_of is not None or instrument.status == "delisted":
            continue
        quote = instrument.base_asset if instrument.inverted else instrument.quote_asset
        if (instrument.market in markets and quote in money) or (
            assets.is_rate_source(instrument.base_asset, instrument.quote_asset)
            and {
                instrument.base_asset,
                instrument.quote_asset,
            }
            <= money | {"USD"}
        ):
            chosen.append(entry)
    return chosen


def shown(listed: Iterable[Listed], config: Config, assets: Assets) -> list[Listed]:
    """What is published on `instruments`: what is followed, and the aliases of it."""
    entries = list(listed)
    chosen = followed(entries, config, assets)
    names = {entry.instrument.instrument for entry in chosen}
    return chosen + [entry for entry in entries if entry.instrument.alias_of in names]
