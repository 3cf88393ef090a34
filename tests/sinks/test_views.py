"""Every view answers what its comment says."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from cexdex.config import Config
from cexdex.records.record import Record
from cexdex.runtime.clickhouse import Warehouse
from cexdex.runtime.clock import now_us
from sinks.schema.runner import prepare_tables
from sinks.view import parse, views
from tests.sinks.samples import AT, MINUTE_US, any_record, quote, trade
from tests.sinks.values import value

pytestmark = pytest.mark.integration
Own = Callable[[str], Config]


async def stored(config: Config, *records: Record) -> Warehouse:
    """The records in their tables, the later the higher its offset."""
    from cexdex.records.record import declaration_of, encode

    await prepare_tables(config)
    warehouse = await Warehouse.open(config.clickhouse)
    offsets = itertools.count()
    for record in records:
        row = b'{"_partition":0,"_offset":%d,%b' % (next(offsets), encode(record)[1:])
        await warehouse.insert(declaration_of(type(record)).table, row, token=row.hex()[:200] + str(row))
    return warehouse


async def test_every_views_example_runs_and_its_columns_are_documented(config: Config) -> None:
    await prepare_tables(config)
    warehouse = await Warehouse.open(config.clickhouse)
    assert {view.name for view in views()} >= {
        "spread_now",
        "best_now",
        "spread_history",
        "liquidity_now",
        "venue_quality",
        "candles_1m",
    }
    for view in views():
        await warehouse.rows(view.example)
        described = await warehouse.rows(f"DESCRIBE TABLE {view.name}")
        assert [row[0] for row in described] == list(view.columns), view.name
        assert view.answers.endswith((".", "?"))
        assert all(view.columns.values())
    await warehouse.close()


def test_a_view_without_its_comment_is_named() -> None:
    with pytest.raises(ValueError, match="view bare must begin with a comment"):
        parse("bare", "SELECT 1")


async def test_candles_are_exact_with_recovered_trades_in_and_busted_ones_out(config: Config) -> None:
    at = AT
    records = [
        trade(9, at=at + 1_000, price=10.0, size=2.0, quote_size=20.0),
        trade(10, at=at + 1_000, price=12.0, size=1.0, quote_size=12.0, taker_side="sell"),
        trade(8, at=at, price=11.0, size=0.125, quote_size=1.375, origin="recovery"),
        trade(11, at=at + 59_999_999, price=9.0, size=0.25, quote_size=2.25),
        trade(12, at=at + 30_000_000, price=1_000.0, size=5.0, quote_size=5_000.0),
        trade(12, at=at + 30_000_000, price=1_000.0, size=5.0, quote_size=5_000.0, action="bust", revision=1),
        trade(13, at=at + MINUTE_US, price=50.0, size=1.0, quote_size=50.0),
        # The same fill by REST, its time cut to milliseconds: one trade still.
        trade(11, at=at + 59_999_000, price=9.0, size=0.25, quote_size=2.25, origin="recovery"),
        trade(1, at=at, instrument="kraken:BTC-USD", venue="kraken", price=77.0),
    ]
    warehouse = await stored(config, *records)
    rows = await warehouse.rows(
        "SELECT started_at, open, high, low, close, volume, quote_volume, buy_volume, trades, vwap FROM candles_1m"
        " WHERE instrument = 'binance:BTC-USDT' ORDER BY minute"
    )
    await warehouse.close()
    assert rows == [
        (at, 11.0, 12.0, 9.0, 9.0, 3.375, 35.625, 2.375, 4, 35.625 / 3.375),
        (at + MINUTE_US, 50.0, 50.0, 50.0, 50.0, 1.0, 50.0, 1.0, 1, 50.0),
    ]


def spread(at: int, net: float | None, **changes: Any) -> Record:
    return any_record("spreads", at=at, market="BTC-USD", net_bps=net, **changes)


async def test_spread_now_is_the_newest_of_each_edge_and_says_how_old_it_is(config: Config) -> None:
    now = now_us()
    warehouse = await stored(
        config,
        spread(now - 2_000_000, 1.0, edge="a>b", buy="a", sell="b"),
        spread(now - 1_000_000, 2.0, edge="a>b", buy="a", sell="b", ordinal=0),
        spread(now - 1_000_000, 3.0, edge="a>b", buy="a", sell="b", ordinal=1, valid=True, reason=None),
        spread(now - 500_000, None, edge="b>a", buy="b", sell="a", valid=False, reason="stale_leg"),
        spread(now - 40_000_000, 9.0, edge="delisted>a", buy="delisted", sell="a"),
    )
    rows = await warehouse.rows(
        "SELECT buy, net_bps, valid, reason, as_of, age_us FROM spread_now ORDER BY buy"
    )
    await warehouse.close()
    assert rows == [("a", 3.0, True, None, "now", 500_000), ("b", None, False, "stale_leg", "now", 0)]


@pytest.mark.parametrize(("prefix", "says"), [("late", "sink_lag"), ("replay", "replay")])
async def test_old_data_never_passes_for_now(own: Own, prefix: str, says: str) -> None:
    config = own(f"{prefix}_{now_us()}")
    at = AT
    warehouse = await stored(
        config,
        spread(at, 1.0, edge="a>b", buy="a", sell="b", valid=True, reason=None),
        spread(at, 1.0, edge="b>a", buy="b", sell="a", valid=False, reason="gap"),
        any_record("consolidated", at=at),
        any_record("liquidity", at=at, valid=True, reason=None),
    )
    spreads = await warehouse.rows("SELECT valid, reason, as_of FROM spread_now ORDER BY buy")
    others = await warehouse.rows("SELECT as_of FROM best_now UNION ALL SELECT as_of FROM liquidity_now")
    await warehouse.close()
    if says == "replay":  # Its rows were true in their own time.
        assert spreads == [(True, "replay", "replay"), (False, "gap", "replay")]
    else:
        assert spreads == [(False, "sink_lag", "sink_lag")] * 2
    assert others == [(says,), (says,)]


async def test_spread_history_counts_only_what_could_be_believed(config: Config) -> None:
    warehouse = await stored(
        config,
        spread(AT, 4.0, edge="a>b", valid=True, reason=None),
        spread(AT + 1_000_000, 6.0, edge="a>b", valid=True, reason=None),
        spread(AT + 2_000_000, 99.0, edge="a>b", valid=False, reason="crossed"),
        spread(AT + 3_000_000, 5.0, edge="a>b", valid=True, reason=None),
    )
    rows = await warehouse.rows(
        "SELECT records, valid_share, max_net_bps, median_net_bps, last_net_bps FROM spread_history"
    )
    await warehouse.close()
    assert rows == [(4, 0.75, 6.0, 5.0, 5.0)]


async def test_venue_quality_tells_uptime_lag_and_gaps(config: Config) -> None:
    hour = AT // (60 * MINUTE_US) * 60 * MINUTE_US
    warehouse = await stored(
        config,
        *(quote(n, at=hour + n * 1_000_000, event_time=hour + n * 1_000_000 - 2_000) for n in range(10)),
        *(
            quote(
                n,
                at=hour + n * 1_000_000,
                venue="kraken",
                instrument="kraken:BTC-USD",
                event_time=None,
                state="live" if n < 5 else "stale",
            )
            for n in range(10)
        ),
        any_record(
            "venue_status", at=hour + 1, venue="kraken", instrument="kraken:BTC-USD", kind="gap", lost=3
        ),
        any_record(
            "venue_status", at=hour + 2, venue="kraken", instrument="", kind="disconnected", lost=None
        ),
    )
    rows = await warehouse.rows(
        "SELECT venue, uptime, lag_p50_us, disconnects, gaps, lost FROM venue_quality ORDER BY venue"
    )
    await warehouse.close()
    assert rows == [("binance", 1.0, 2_000, 0, 0, 0), ("kraken", 0.5, None, 1, 1, 3)]


def test_a_plain_value_is_made_for_every_annotation() -> None:
    assert value(list[tuple[float, float]], AT) == [(1.5, 1.5)]
