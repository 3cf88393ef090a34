"""A naive client that follows Binance's own numbered steps, against the simulated venue."""

import itertools
from decimal import Decimal
from typing import Any

import pytest

from simulator.wire import Connection

BTC = "binance:BTC-USDT"


class NaiveBook:
    """The steps of the venue's documentation, one by one."""

    def __init__(self) -> None:
        self.buffered: list[dict[str, Any]] = []
        self.last: int | None = None
        self.sides: dict[str, dict[Decimal, Decimal]] = {"b": {}, "a": {}}
        self.gaps = self.unknown_deletes = 0

    def snapshot(self, body: dict[str, Any]) -> None:
        assert self.buffered[0]["U"] <= body["lastUpdateId"], "the snapshot is older than the stream"
        self.last = body["lastUpdateId"]
        for side, levels in (("b", body["bids"]), ("a", body["asks"])):
            self.sides[side] = {Decimal(price): Decimal(size) for price, size in levels}
        survivors = [event for event in self.buffered if event["u"] > body["lastUpdateId"]]
        if survivors:
            assert survivors[0]["U"] <= body["lastUpdateId"] + 1 <= survivors[0]["u"]
        for event in survivors:
            self.apply(event)

    def apply(self, event: dict[str, Any]) -> None:
        if self.last is None:
            self.buffered.append(event)
            return
        if event["u"] < self.last:
            return
        if event["U"] > self.last + 1:
            self.gaps += 1
        self.last = event["u"]
        for side, book in self.sides.items():
            for price, size in event[side]:
                if Decimal(size):
                    book[Decimal(price)] = Decimal(size)
                elif book.pop(Decimal(price), None) is None:
                    self.unknown_deletes += 1


def streams(*names: str, symbol: str = "btcusdt") -> str:
    return "/".join(f"{symbol}@{name}" for name in names)


def test_a_bridged_book_is_the_venues_own_level_by_level(stage: Any, received: Any) -> None:
    venue = stage("binance")
    client = venue.connect("/stream", streams=streams("depth@100ms"))
    book = NaiveBook()
    venue.run(0.25)
    for frame in received(client):
        book.apply(frame["data"])
    book.snapshot(venue.get("/api/v3/depth", symbol="BTCUSDT", limit="5000"))

    venue.run(11.75)  # through the first planted spread, to a frame's end
    for frame in received(client):
        book.apply(frame["data"])

    assert (book.sides["b"], book.sides["a"]) == venue.book(BTC)
    assert book.gaps == 0
    assert book.unknown_deletes > 0


def test_each_frame_continues_the_one_before_and_the_ticker_leads(stage: Any, received: Any) -> None:
    venue = stage("binance")
    client = venue.connect("/stream", streams=streams("depth@100ms", "bookTicker"))
    venue.run(5)

    last, tickers, seen = None, 0, 0
    for frame in received(client):
        data = frame["data"]
        if frame["stream"] == "btcusdt@bookTicker":
            assert set(data) == {"u", "s", "b", "B", "a", "A"}
            assert last is None or data["u"] > last, "a ticker after the depth frame that contains it"
            tickers += 1
            continue
        seen += 1
        assert data["u"] >= data["U"]
        assert last is None or data["U"] == last + 1
        last = data["u"]
    assert seen > 40
    assert tickers > 40


def test_frames_are_written_as_the_venue_writes_them(stage: Any, received: Any) -> None:
    venue = stage("binance")
    raw = venue.connect("/ws/btcusdt@trade")
    micros = venue.connect("/stream", streams="btcusdt@trade", timeUnit="MICROSECOND")
    venue.run(3)

    trades, finer = received(raw), [frame["data"] for frame in received(micros)]
    assert len(trades) == len(finer) > 5
    for trade, fine in zip(trades, finer, strict=True):
        assert list(trade) == ["e", "E", "s", "t", "p", "q", "T", "m", "M"]
        assert fine["T"] // 1000 == trade["T"]
        assert len(trade["p"].split(".")[1]) == len(trade["q"].split(".")[1]) == 8
    ids = [trade["t"] for trade in trades]
    assert ids == list(range(ids[0], ids[0] + len(ids)))


def test_aggregates_cover_every_trade_once(stage: Any, received: Any) -> None:
    venue = stage("binance")
    client = venue.connect("/stream", streams=streams("trade", "aggTrade"))
    venue.run(10)

    trades: dict[int, Any] = {}
    aggregates = []
    for frame in received(client):
        if frame["data"]["e"] == "trade":
            trades[frame["data"]["t"]] = frame["data"]
        else:
            aggregates.append(frame["data"])
    assert len(aggregates) < len(trades)
    for before, after in itertools.pairwise(aggregates):
        assert after["f"] == before["l"] + 1
        assert after["a"] == before["a"] + 1
    for aggregate in aggregates:
        merged = [trades[i] for i in range(aggregate["f"], aggregate["l"] + 1)]
        assert sum(Decimal(trade["q"]) for trade in merged) == Decimal(aggregate["q"])
        assert {trade["p"] for trade in merged} == {aggregate["p"]}


def test_the_slow_stream_and_partial_depth(stage: Any, received: Any) -> None:
    venue = stage("binance")
    client = venue.connect("/stream", streams=streams("depth", "depth5@100ms"))
    venue.run(4)

    frames = received(client)
    slow = [frame["data"] for frame in frames if frame["stream"] == "btcusdt@depth"]
    assert len(slow) == 4
    assert all(b["U"] == a["u"] + 1 for a, b in itertools.pairwise(slow))
    partial = [frame["data"] for frame in frames if frame["stream"] == "btcusdt@depth5@100ms"]
    assert len(partial) == 40
    bids, asks = venue.book(BTC)
    assert [Decimal(price) for price, _ in partial[-1]["bids"]] == sorted(bids, reverse=True)[:5]
    assert [Decimal(price) for price, _ in partial[-1]["asks"]] == sorted(asks)[:5]


def test_subscriptions_are_acknowledged_and_unknown_symbols_stay_silent(stage: Any, received: Any) -> None:
    venue = stage("binance")
    client = venue.connect("/ws")
    venue.say(client, method="SUBSCRIBE", params=["btcusdt@trade", "nosuch@trade"], id=1)
    venue.say(client, method="LIST_SUBSCRIPTIONS", id="two")
    venue.say(client, method="UNSUBSCRIBE", params=["btcusdt@trade"], id=3)
    venue.say(client, method="DANCE", id=4)

    assert received(client) == [
        {"result": None, "id": 1},
        {"result": ["btcusdt@trade", "nosuch@trade"], "id": "two"},
        {"result": None, "id": 3},
        {"code": 2, "msg": "Invalid request: unknown method or params", "id": 4},
    ]
    venue.run(2)
    assert received(client) == []


def test_more_than_five_messages_a_second_are_cut_off(stage: Any, closed: Any) -> None:
    venue = stage("binance")
    client = venue.connect("/ws")
    for number in range(5):
        venue.say(client, method="LIST_SUBSCRIPTIONS", id=number)
    assert closed(client) is None
    venue.say(client, method="LIST_SUBSCRIPTIONS", id=5)
    assert closed(client) == 1008


def test_connection_attempts_are_limited(stage: Any) -> None:
    venue = stage("binance", spreads=False)

    def attempt(now: int) -> int:
        return int(venue.venue.opened(Connection(), "/ws", {}, now))

    assert [attempt(venue.market.now) for _ in range(301)] == [101] * 300 + [429]
    assert attempt(venue.market.now + 301_000_000) == 101
    assert venue.venue.opened(Connection(), "/nowhere", {}, venue.market.now + 301_000_000) == 404


def test_a_client_that_answers_no_ping_is_closed(stage: Any, closed: Any) -> None:
    venue = stage("binance", rate=10, spreads=False)
    silent, alive = venue.connect("/ws"), venue.connect("/ws")
    for _ in range(4):
        venue.run(19)
        venue.venue.ponged(alive, venue.market.now)
    assert closed(silent) == 1008
    assert closed(alive) is None


def test_a_lost_frame_is_one_gap(stage: Any, received: Any) -> None:
    venue = stage("binance")
    client = venue.connect("/stream", streams=streams("depth@100ms"))
    other = venue.connect("/stream", streams=streams("depth@100ms", symbol="ethusdt"))
    venue.run(1)
    venue.fault("gap", BTC)
    venue.run(2)

    def gaps(connection: Any) -> int:
        frames = [frame["data"] for frame in received(connection)]
        return sum(b["U"] != a["u"] + 1 for a, b in itertools.pairwise(frames))

    assert gaps(client) == 1
    assert gaps(other) == 0


def test_silence_stops_one_book_and_nothing_else(stage: Any, received: Any) -> None:
    venue = stage("binance")
    client = venue.connect(
        "/stream", streams=streams("depth@100ms", "bookTicker", "trade") + "/ethusdt@depth@100ms"
    )
    venue.run(1)
    before = received(client)
    venue.fault("silence", BTC, seconds=3.05)
    venue.run(3)
    during = {frame["stream"] for frame in received(client)}
    snapshot = venue.get("/api/v3/depth", symbol="BTCUSDT", limit="5")
    venue.run(1)
    after = received(client)

    assert during == {"btcusdt@trade", "ethusdt@depth@100ms"}
    depth = [frame["data"] for frame in before + after if frame["stream"] == "btcusdt@depth@100ms"]
    assert all(b["U"] == a["u"] + 1 for a, b in itertools.pairwise(depth))
    last_before = [frame["data"] for frame in before if frame["stream"] == "btcusdt@depth@100ms"][-1]
    assert snapshot["lastUpdateId"] > last_before["u"], "a probe can see that the book has moved on"


def test_a_crossed_book_is_published_and_mended(stage: Any, received: Any) -> None:
    venue = stage("binance", spreads=False)
    client = venue.connect("/stream", streams=streams("bookTicker"))
    venue.run(1)
    venue.fault("crossed", BTC, seconds=0.5)
    venue.run(2)

    crossed = [Decimal(frame["data"]["b"]) >= Decimal(frame["data"]["a"]) for frame in received(client)]
    first = crossed.index(True)
    assert crossed.index(False, first) + crossed[crossed.index(False, first) :].count(False) == len(crossed)
    assert crossed[-1] is False


def test_a_planned_close_is_announced(stage: Any, received: Any, closed: Any) -> None:
    venue = stage("binance")
    raw, combined = venue.connect("/ws"), venue.connect("/stream")
    venue.fault("shutdown", seconds=2)
    assert received(raw) == [{"e": "serverShutdown", "E": venue.market.now // 1000}]
    assert received(combined)[0]["stream"] == "!serverShutdown"
    venue.run(1.9)
    assert closed(raw) is None
    venue.run(0.2)
    assert closed(raw) == closed(combined) == 1001


def test_rest_says_what_is_listed(stage: Any) -> None:
    venue = stage("binance")
    symbols = {row["symbol"]: row for row in venue.get("/api/v3/exchangeInfo")["symbols"]}

    assert set(symbols) == {"BTCUSDT", "BTCUSDC", "ETHUSDT", "ETHUSDC", "USDCUSDT"}
    filters = {row["filterType"]: row for row in symbols["BTCUSDT"]["filters"]}
    assert filters["PRICE_FILTER"]["tickSize"] == "0.01000000"
    assert filters["LOT_SIZE"]["stepSize"] == filters["LOT_SIZE"]["minQty"] == "0.00001000"
    assert filters["NOTIONAL"]["minNotional"] == "5.00000000"
    assert symbols["USDCUSDT"]["status"] == "TRADING"
    assert venue.get("/api/v3/time") == {"serverTime": venue.market.now // 1000}


def test_recent_trades_are_those_of_the_stream(stage: Any, received: Any) -> None:
    venue = stage("binance")
    client = venue.connect("/ws/btcusdt@trade")
    venue.run(5)
    streamed = [(t["t"], t["p"], t["q"], t["T"], t["m"]) for t in received(client)]
    body = venue.get("/api/v3/historicalTrades", symbol="BTCUSDT", fromId=str(streamed[0][0]))

    assert [(t["id"], t["price"], t["qty"], t["time"], t["isBuyerMaker"]) for t in body] == streamed
    assert all(Decimal(t["quoteQty"]) == Decimal(t["price"]) * Decimal(t["qty"]) for t in body)


@pytest.mark.parametrize(("limit", "weight"), [("100", 5), ("500", 25), ("1000", 50), ("5000", 250)])
def test_depth_costs_its_weight(stage: Any, limit: str, weight: int) -> None:
    venue = stage("binance")
    answer = venue.venue.get("/api/v3/depth", {"symbol": "BTCUSDT", "limit": limit}, venue.market.now)
    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == str(weight)


def test_over_the_weight_requests_are_refused_until_the_minute_ends(stage: Any) -> None:
    venue = stage("binance")
    ask = {"symbol": "BTCUSDT", "limit": "5000"}
    now = venue.market.now - venue.market.now % 60_000_000 + 50_000_000
    statuses = [venue.venue.get("/api/v3/depth", ask, now).status for _ in range(25)]
    assert statuses == [200] * 24 + [429]
    refused = venue.venue.get("/api/v3/depth", ask, now)
    assert refused.headers["Retry-After"] == "11"
    assert [venue.venue.get("/api/v3/depth", ask, now).status for _ in range(25)][-1] == 418
    assert venue.venue.get("/api/v3/depth", ask, now + 11_000_000).status == 200
    assert venue.venue.get("/api/v3/depth", {"symbol": "NOSUCH"}, now + 11_000_000).status == 400
