"""A naive client of Kraken's v2 socket, checksum and all, against the simulated venue."""

import zlib
from decimal import Decimal
from typing import Any

from simulator.book import Book
from simulator.kraken_frames import checksum

BTC = "kraken:BTC-USD"

# From the venue's own guide; its CRC-32 is 3310070434.
GOLDEN_ASKS = (
    "45285.2/0.00100000 45286.4/1.54571953 45286.6/1.54571109 45289.6/1.54560911 45290.2/0.15890660 "
    "45291.8/1.54553491 45294.7/0.04454749 45296.1/0.35380000 45297.5/0.09945542 45299.5/0.18772827"
)
GOLDEN_BIDS = (
    "45283.5/0.10000000 45283.4/1.54582015 45282.1/0.10000000 45281.0/0.10000000 45280.3/1.54592586 "
    "45279.0/0.07990000 45277.6/0.03310103 45277.5/0.30000000 45277.3/1.54602737 45276.6/0.15445238"
)


class NaiveBook:
    """Apply, truncate, check: in that order, with the numbers as they stand in the text."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}
        self.checked = self.wrong = self.unknown_deletes = self.snapshots = 0

    def receive(self, frame: dict[str, Any]) -> None:
        (data,) = frame["data"]
        if frame["type"] == "snapshot":
            self.bids, self.asks = {}, {}
            self.snapshots += 1
        for side, levels in ((self.bids, data["bids"]), (self.asks, data["asks"])):
            for level in levels:
                if level["qty"]:
                    side[level["price"]] = level["qty"]
                elif side.pop(level["price"], None) is None:
                    self.unknown_deletes += 1
        for price in sorted(self.bids, reverse=True)[self.depth :]:
            del self.bids[price]
        for price in sorted(self.asks)[self.depth :]:
            del self.asks[price]
        self.checked += 1
        self.wrong += self.crc() != data["checksum"]

    def crc(self) -> int:
        best = [(price, self.asks[price]) for price in sorted(self.asks)[:10]]
        best += [(price, self.bids[price]) for price in sorted(self.bids, reverse=True)[:10]]
        return zlib.crc32("".join(digits(price) + digits(size) for price, size in best).encode())


def digits(number: Decimal) -> str:
    return str(number).replace(".", "").lstrip("0")


def subscribe(venue: Any, client: Any, channel: str, *symbols: str, **params: object) -> None:
    venue.say(
        client, method="subscribe", params={"channel": channel, "symbol": list(symbols), **params}, req_id=7
    )


def books(frames: list[Any], symbol: str = "BTC/USD") -> list[Any]:
    return [f for f in frames if f.get("channel") == "book" and f["data"][0]["symbol"] == symbol]


def test_the_venues_golden_vector() -> None:
    book, naive = Book(), NaiveBook(10)
    for side, theirs, text in ((book.asks, naive.asks, GOLDEN_ASKS), (book.bids, naive.bids, GOLDEN_BIDS)):
        for level in text.split():
            price, size = map(Decimal, level.split("/"))
            side.put(int(price.scaleb(1)), int(size.scaleb(8)))
            theirs[price] = size

    assert checksum(book) == naive.crc() == 3310070434


def test_books_of_every_depth_are_right_at_every_update(stage: Any, received: Any) -> None:
    venue = stage("kraken", spreads=False)
    venue.run(0.5)
    clients = {depth: (venue.connect("/v2"), NaiveBook(depth)) for depth in (10, 25, 100, 500, 1000)}
    for depth, (client, _) in clients.items():
        subscribe(venue, client, "book", "BTC/USD", depth=depth)
    # Up and down by 2 %: whole sides are swept, and levels leave and re-enter every depth.
    for factor in (1.0, 1.02, 1.0, 0.98, 1.0) * 4:
        venue.market.quoting[BTC].factor = factor
        venue.run(0.5)
        bids, asks = venue.book(BTC)
        best_bids, best_asks = sorted(bids, reverse=True), sorted(asks)
        for depth, (client, naive) in clients.items():
            for frame in books(received(client)):
                naive.receive(frame)
            assert naive.bids == {price: bids[price] for price in best_bids[:depth]}
            assert naive.asks == {price: asks[price] for price in best_asks[:depth]}

    for _, naive in clients.values():
        assert naive.checked > 100
        assert (naive.wrong, naive.unknown_deletes) == (0, 0)


def test_numbers_keep_their_zeros(stage: Any, received: Any) -> None:
    venue = stage("kraken")
    client = venue.connect("/v2")
    subscribe(venue, client, "book", "USDT/USD")
    level = books(received(client), "USDT/USD")[0]["data"][0]["bids"][0]
    assert (level["price"].as_tuple().exponent, level["qty"].as_tuple().exponent) == (-5, -8)


def test_the_socket_says_its_status_and_acknowledges_each_symbol(stage: Any, received: Any) -> None:
    venue = stage("kraken")
    client = venue.connect("/v2")
    subscribe(venue, client, "book", "BTC/USD", "ETH/USD", "NO/SUCH", depth=10)
    status, *frames = received(client)

    assert status["channel"] == "status"
    assert status["data"][0]["system"] == "online"
    assert status["data"][0]["connection_id"] > 2**53
    acks = [frame for frame in frames if frame.get("method") == "subscribe"]
    assert [ack["success"] for ack in acks] == [True, True, False]
    assert acks[0]["result"] == {"channel": "book", "depth": 10, "snapshot": True, "symbol": "BTC/USD"}
    assert (acks[2]["symbol"], acks[2]["error"]) == ("NO/SUCH", "Currency pair not supported NO/SUCH")
    assert {ack["req_id"] for ack in acks} == {7}
    assert all("time_in" in ack and "time_out" in ack for ack in acks)


def test_subscribing_anew_gives_a_new_snapshot(stage: Any, received: Any) -> None:
    venue = stage("kraken")
    client, naive = venue.connect("/v2"), NaiveBook(500)
    subscribe(venue, client, "book", "BTC/USD", depth=500)
    venue.run(1)
    subscribe(venue, client, "book", "BTC/USD", depth=500)
    venue.say(
        client,
        method="unsubscribe",
        params={"channel": "book", "symbol": ["BTC/USD"], "depth": 500},
        req_id=8,
    )
    venue.run(1)
    subscribe(venue, client, "book", "BTC/USD", depth=500)
    venue.run(1)

    frames = received(client)
    answers = [(f["method"], f["success"], f.get("error")) for f in frames if "method" in f]
    assert answers == [
        ("subscribe", True, None),
        ("subscribe", False, "Already subscribed"),
        ("unsubscribe", True, None),
        ("subscribe", True, None),
    ]
    for frame in books(frames):
        naive.receive(frame)
    assert (naive.snapshots, naive.wrong) == (2, 0)


def test_bad_requests_are_answered(stage: Any, received: Any) -> None:
    venue = stage("kraken")
    client = venue.connect("/v2")
    subscribe(venue, client, "book", "BTC/USD", depth=11)
    subscribe(venue, client, "nonsense", "BTC/USD")
    venue.say(client, method="ping", req_id=101)
    frames = received(client)[1:]
    assert [frame.get("error") for frame in frames] == [
        "Subscription depth not supported",
        "Channel not supported",
        None,
    ]
    assert (frames[2]["method"], frames[2]["req_id"]) == ("pong", 101)


def test_trades_name_the_taker(stage: Any, received: Any) -> None:
    venue = stage("kraken", spreads=False)
    client = venue.connect("/v2")
    subscribe(venue, client, "trade", "BTC/USD", snapshot=True)
    (snapshot,) = [frame for frame in received(client) if frame.get("channel") == "trade"]
    assert (snapshot["type"], len(snapshot["data"])) == ("snapshot", 50)
    ids = [trade["trade_id"] for trade in snapshot["data"]]
    sides = set()
    for _ in range(200 * 8):
        book = venue.market.book(BTC)
        mid = Decimal(book.bids.best + book.asks.best) / 20
        venue.run(0.005)
        for frame in received(client):
            for trade in frame["data"] if frame.get("channel") == "trade" else ():
                ids.append(trade["trade_id"])
                sides.add(trade["side"])
                assert (trade["price"] > mid) == (trade["side"] == "buy")
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    assert len(ids) > 60
    assert sides == {"buy", "sell"}


def test_heartbeats_fill_the_quiet(stage: Any, received: Any) -> None:
    venue = stage("kraken", rate=0.001, spreads=False)
    client = venue.connect("/v2")
    venue.run(3)
    assert [frame["channel"] for frame in received(client)] == ["status"], (
        "none before the first subscription"
    )
    subscribe(venue, client, "book", "BTC/USD")
    received(client)
    venue.run(3.1)
    assert received(client) == [{"channel": "heartbeat"}] * 3


def test_the_instrument_channel(stage: Any, received: Any) -> None:
    venue = stage("kraken")
    client = venue.connect("/v2")
    venue.say(client, method="subscribe", params={"channel": "instrument"})
    frame = received(client)[-1]
    pairs = {pair["symbol"]: pair for pair in frame["data"]["pairs"]}
    assert set(pairs) == {"BTC/USD", "BTC/USDT", "ETH/USD", "ETH/USDT", "USDT/USD", "USDC/USD"}
    btc = pairs["BTC/USD"]
    assert (btc["price_precision"], btc["qty_precision"], btc["price_increment"]) == (1, 8, Decimal("0.1"))
    assert btc["qty_increment"] == Decimal("1e-8")


def test_a_wrong_checksum_comes_once(stage: Any, received: Any) -> None:
    venue = stage("kraken")
    client, naive = venue.connect("/v2"), NaiveBook(500)
    subscribe(venue, client, "book", "BTC/USD", depth=500)
    venue.run(1)
    venue.fault("checksum", BTC)
    venue.run(2)
    for frame in books(received(client)):
        naive.receive(frame)
    assert naive.wrong == 1
    assert naive.bids == dict(sorted(venue.book(BTC)[0].items(), reverse=True)[:500])


def test_a_lost_update_shows_in_the_checksum_until_a_new_snapshot(stage: Any, received: Any) -> None:
    venue = stage("kraken", spreads=False)
    client, naive = venue.connect("/v2"), NaiveBook(10)
    subscribe(venue, client, "book", "BTC/USD", depth=10)
    venue.run(1)
    for frame in books(received(client)):
        naive.receive(frame)
    assert naive.wrong == 0
    venue.fault("gap", BTC)
    venue.run(1)
    for frame in books(received(client)):
        naive.receive(frame)
    assert naive.wrong > 0
    venue.say(client, method="unsubscribe", params={"channel": "book", "symbol": ["BTC/USD"], "depth": 10})
    subscribe(venue, client, "book", "BTC/USD", depth=10)
    naive.wrong = 0
    venue.run(1)
    for frame in books(received(client)):
        naive.receive(frame)
    assert (naive.snapshots, naive.wrong) == (2, 0)


def test_silence_withholds_even_a_new_snapshot(stage: Any, received: Any) -> None:
    venue = stage("kraken")
    client, naive = venue.connect("/v2"), NaiveBook(100)
    subscribe(venue, client, "book", "BTC/USD", "ETH/USD", depth=100)
    venue.run(1)
    received(client)
    venue.fault("silence", BTC, seconds=2)
    venue.say(client, method="unsubscribe", params={"channel": "book", "symbol": ["BTC/USD"], "depth": 100})
    subscribe(venue, client, "book", "BTC/USD", depth=100)
    venue.run(2)
    during = received(client)
    assert books(during) == []
    assert len(books(during, "ETH/USD")) > 10
    assert [frame["success"] for frame in during if "method" in frame] == [True, True]
    venue.run(1)
    for frame in books(received(client)):
        naive.receive(frame)
    assert (naive.snapshots, naive.wrong) == (1, 0)
    assert naive.checked > 5


def test_a_crossed_book_has_a_right_checksum(stage: Any, received: Any) -> None:
    venue = stage("kraken", spreads=False)
    client, naive = venue.connect("/v2"), NaiveBook(10)
    subscribe(venue, client, "book", "BTC/USD")
    venue.run(1)
    venue.fault("crossed", BTC, seconds=0.5)
    venue.run(2)
    crossed = []
    for frame in books(received(client)):
        naive.receive(frame)
        crossed.append(max(naive.bids) >= min(naive.asks))
    assert True in crossed
    assert crossed[-1] is False
    assert naive.wrong == 0


def test_rest_says_what_is_listed_and_what_it_costs(stage: Any) -> None:
    venue = stage("kraken")
    pairs = venue.get("/0/public/AssetPairs")["result"]
    assert {pair["wsname"] for pair in pairs.values()} == {
        "XBT/USD",
        "XBT/USDT",
        "ETH/USD",
        "ETH/USDT",
        "USDT/USD",
        "USDC/USD",
    }
    btc = pairs["XXBTZUSD"]
    assert (btc["pair_decimals"], btc["lot_decimals"], btc["tick_size"], btc["costmin"]) == (
        1,
        8,
        "0.1",
        "0.5",
    )
    assert (btc["fees"][0], btc["fees_maker"][0], btc["status"]) == ([0, 0.4], [0, 0.25], "online")
    assert venue.get("/0/public/AssetPairs", pair="NOSUCH") == {"error": ["EQuery:Unknown asset pair"]}
    assert venue.get("/0/public/Time")["result"]["unixtime"] == venue.market.now // 1_000_000

    depth = venue.get("/0/public/Depth", pair="XBTUSD", count="3")["result"]["XXBTZUSD"]
    bids, asks = venue.book(BTC)
    assert [Decimal(row[0]) for row in depth["bids"]] == sorted(bids, reverse=True)[:3]
    assert [Decimal(row[0]) for row in depth["asks"]] == sorted(asks)[:3]
    trades = venue.get("/0/public/Trades", pair="XBT/USD")["result"]["XXBTZUSD"]
    assert [row[6] for row in trades][-1] == venue.market.quoting[BTC].trade_id
