"""A naive client of Coinbase Advanced Trade against the simulated venue."""

from decimal import Decimal
from typing import Any

BTC = "coinbase:BTC-USD"


class NaiveClient:
    def __init__(self) -> None:
        self.expected = 0
        self.gaps = self.unknown_deletes = 0
        self.books: dict[str, dict[str, dict[Decimal, Decimal]]] = {}
        self.trades: list[dict[str, Any]] = []
        self.seen: list[str] = []

    def receive(self, frame: dict[str, Any]) -> None:
        if frame["sequence_num"] != self.expected:
            self.gaps += 1
        self.expected = frame["sequence_num"] + 1
        self.seen.append(frame["channel"])
        for event in frame["events"]:
            if frame["channel"] == "l2_data":
                self._levels(event)
            elif frame["channel"] == "market_trades":
                self.trades.extend({**trade, "type": event["type"]} for trade in event["trades"])

    def _levels(self, event: dict[str, Any]) -> None:
        if event["type"] == "snapshot":
            self.books[event["product_id"]] = {"bid": {}, "offer": {}}
        for update in event["updates"]:
            side = self.books[event["product_id"]][update["side"]]
            price, size = Decimal(update["price_level"]), Decimal(update["new_quantity"])
            if size:
                side[price] = size
            elif side.pop(price, None) is None:
                self.unknown_deletes += 1


def subscribe(venue: Any, client: Any, channel: str, *products: str) -> None:
    venue.say(client, type="subscribe", channel=channel, product_ids=list(products))


def test_a_book_is_the_venues_own_level_by_level(stage: Any, received: Any) -> None:
    venue = stage("coinbase")
    client, naive = venue.connect("/"), NaiveClient()
    venue.run(0.5)
    subscribe(venue, client, "heartbeats")
    subscribe(venue, client, "level2", "BTC-USD", "ETH-USD")
    subscribe(venue, client, "market_trades", "BTC-USD")
    venue.run(20)  # through planted spreads that move both books
    for frame in received(client):
        naive.receive(frame)

    for product in ("BTC-USD", "ETH-USD"):
        book = naive.books[product]
        assert (book["bid"], book["offer"]) == venue.book(f"coinbase:{product}")
    assert naive.gaps == 0
    assert naive.unknown_deletes > 0
    assert naive.expected == len(naive.seen)


def test_side_is_the_makers(stage: Any, received: Any) -> None:
    """As measured on the real feed: SELL prints above the mid, because a taker bought from a resting offer."""
    venue = stage("coinbase")
    client, naive = venue.connect("/"), NaiveClient()
    subscribe(venue, client, "level2", "BTC-USD")
    subscribe(venue, client, "market_trades", "BTC-USD")
    mids: dict[str, Decimal] = {}
    above = below = 0
    for _ in range(200 * 8):
        book = venue.market.book(BTC)
        mid = Decimal(book.bids.best + book.asks.best) / 200
        last = venue.market.quoting[BTC].trade_id
        venue.run(0.005)
        for trade_id in range(last + 1, venue.market.quoting[BTC].trade_id + 1):
            mids[str(trade_id)] = mid
    for frame in received(client):
        naive.receive(frame)
    for trade in naive.trades:
        if trade["type"] == "snapshot":
            continue
        if trade["side"] == "SELL":
            above += Decimal(trade["price"]) > mids[trade["trade_id"]]
        else:
            below += Decimal(trade["price"]) < mids[trade["trade_id"]]
    updates = [trade for trade in naive.trades if trade["type"] == "update"]
    # A planted spread that opens within the very step moves the mid under a trade now and then.
    assert above + below >= 0.97 * len(updates)
    assert min(above, below) > 5


def test_trades_begin_with_the_recent_ones_and_go_on_without_a_hole(stage: Any, received: Any) -> None:
    venue = stage("coinbase")
    client, naive = venue.connect("/"), NaiveClient()
    venue.run(2.1)  # in the middle of a batch
    subscribe(venue, client, "market_trades", "BTC-USD", "ETH-USD")
    venue.run(3)
    frames = received(client)
    for frame in frames:
        naive.receive(frame)

    for product in ("BTC-USD", "ETH-USD"):
        snapshot = [
            int(t["trade_id"]) for t in naive.trades if t["type"] == "snapshot" and t["product_id"] == product
        ]
        updates = [
            int(t["trade_id"]) for t in naive.trades if t["type"] == "update" and t["product_id"] == product
        ]
        assert snapshot == list(range(snapshot[0], snapshot[0] - 100, -1)), "newest first"
        assert updates == list(range(snapshot[0] + 1, snapshot[0] + 1 + len(updates)))
    batches = [f for f in frames if f["channel"] == "market_trades" and f["events"][0]["type"] == "update"]
    assert len(batches) <= 2 * 13, "at most one frame a product in 250 ms"
    assert all(
        set(t) == {"product_id", "trade_id", "price", "size", "time", "side"}
        for t in batches[0]["events"][0]["trades"]
    )


def test_snapshot_comes_before_its_acknowledgement(stage: Any, received: Any) -> None:
    venue = stage("coinbase")
    client = venue.connect("/")
    subscribe(venue, client, "level2", "BTC-USD")

    frames = received(client)
    assert [frame["channel"] for frame in frames] == ["l2_data", "l2_data", "subscriptions"]
    snapshot, empty, acknowledged = (frame["events"][0] for frame in frames)
    sides = [update["side"] for update in snapshot["updates"]]
    assert sides == sorted(sides), "bids first"
    assert len(sides) > 1_000
    assert empty == {"type": "update", "product_id": "BTC-USD", "updates": []}
    assert acknowledged == {"subscriptions": {"level2": ["BTC-USD"]}}
    assert frames[0]["timestamp"].endswith("Z")


def test_an_alias_answers_under_its_real_name(stage: Any, received: Any) -> None:
    venue = stage("coinbase")
    client = venue.connect("/")
    subscribe(venue, client, "level2", "BTC-USDC")
    assert received(client)[0]["events"][0]["product_id"] == "BTC-USD"

    products = {row["product_id"]: row for row in venue.get("/api/v3/brokerage/market/products")["products"]}
    assert set(products) == {"BTC-USD", "ETH-USD", "USDT-USD", "BTC-USDC", "ETH-USDC"}
    assert (products["BTC-USDC"]["alias"], products["BTC-USD"]["alias_to"]) == ("BTC-USD", ["BTC-USDC"])
    assert (products["BTC-USD"]["price_increment"], products["BTC-USD"]["base_increment"]) == (
        "0.01",
        "0.00000001",
    )
    assert (products["USDT-USD"]["price_increment"], products["USDT-USD"]["base_increment"]) == (
        "0.00001",
        "0.01",
    )
    assert products["BTC-USD"]["trading_disabled"] is False


def test_a_client_that_subscribes_to_nothing_is_closed_after_five_seconds(stage: Any, closed: Any) -> None:
    venue = stage("coinbase", spreads=False)
    idle, busy = venue.connect("/"), venue.connect("/")
    venue.run(4.9)
    subscribe(venue, busy, "heartbeats")
    assert closed(idle) is None
    venue.run(0.2)
    assert closed(idle) == 1008
    assert closed(busy) is None


def test_heartbeats_come_each_second(stage: Any, received: Any) -> None:
    venue = stage("coinbase")
    client = venue.connect("/")
    subscribe(venue, client, "heartbeats")
    venue.run(4.5)
    beats = [frame["events"][0] for frame in received(client) if frame["channel"] == "heartbeats"]
    counters = [beat["heartbeat_counter"] for beat in beats]
    assert counters == list(range(counters[0], counters[0] + 5))
    assert " +0000 UTC m=+" in beats[0]["current_time"]


def test_errors_are_not_numbered(stage: Any, received: Any) -> None:
    venue = stage("coinbase")
    client = venue.connect("/")
    subscribe(venue, client, "level2", "NO-SUCH")
    venue.say(client, type="subscribe", channel=["level2", "heartbeats"], product_ids=["BTC-USD"])
    venue.venue.received(client, "not json", venue.market.now)
    subscribe(venue, client, "heartbeats")

    frames = received(client)
    assert [frame.get("type") for frame in frames] == ["error", "error", "error", None]
    assert frames[3]["sequence_num"] == 0


def test_unsubscribing_stops_a_channel(stage: Any, received: Any) -> None:
    venue = stage("coinbase")
    client = venue.connect("/")
    subscribe(venue, client, "level2", "BTC-USD", "ETH-USD")
    received(client)
    venue.say(client, type="unsubscribe", channel="level2", product_ids=["BTC-USD"])
    assert received(client)[0]["events"] == [{"subscriptions": {"level2": ["ETH-USD"]}}]
    venue.run(2)
    assert {event["product_id"] for frame in received(client) for event in frame["events"]} == {"ETH-USD"}
    venue.say(client, type="unsubscribe", channel="level2")
    assert received(client)[0]["events"] == [{"subscriptions": {}}]


def test_a_gap_is_a_missing_number(stage: Any, received: Any) -> None:
    venue = stage("coinbase")
    client, other = venue.connect("/"), venue.connect("/")
    subscribe(venue, client, "level2", "BTC-USD")
    subscribe(venue, other, "level2", "ETH-USD")
    venue.run(1)
    venue.fault("gap", BTC)
    venue.run(2)
    naive, unharmed = NaiveClient(), NaiveClient()
    for frame in received(client):
        naive.receive(frame)
    for frame in received(other):
        unharmed.receive(frame)
    assert (naive.gaps, unharmed.gaps) == (1, 0)
    assert (
        naive.books["BTC-USD"]["bid"] != venue.book(BTC)[0]
        or naive.books["BTC-USD"]["offer"] != venue.book(BTC)[1]
    )


def test_silence_holds_a_book_back_while_the_socket_lives(stage: Any, received: Any) -> None:
    venue = stage("coinbase")
    client, naive = venue.connect("/"), NaiveClient()
    subscribe(venue, client, "heartbeats")
    subscribe(venue, client, "level2", "BTC-USD", "ETH-USD")
    venue.run(1)
    for frame in received(client):
        naive.receive(frame)
    venue.fault("silence", BTC, seconds=2)
    late = venue.connect("/")
    subscribe(venue, late, "level2", "BTC-USD")
    venue.run(2)
    during = received(client)
    assert {frame["channel"] for frame in during} == {"heartbeats", "l2_data"}
    assert {e["product_id"] for f in during if f["channel"] == "l2_data" for e in f["events"]} == {"ETH-USD"}
    assert [frame["channel"] for frame in received(late)] == ["subscriptions"]
    venue.run(1)
    for frame in during + received(client):
        naive.receive(frame)
    assert (naive.books["BTC-USD"]["bid"], naive.books["BTC-USD"]["offer"]) == venue.book(BTC)
    assert naive.gaps == 0
    assert received(late)[0]["events"][0]["type"] == "snapshot"


def test_recent_trades_by_request(stage: Any, received: Any) -> None:
    venue = stage("coinbase")
    client = venue.connect("/")
    subscribe(venue, client, "market_trades", "BTC-USD")
    snapshot = received(client)[0]["events"][0]["trades"]
    body = venue.get("/api/v3/brokerage/market/products/BTC-USD/ticker", limit="100")
    assert body["trades"] == snapshot
