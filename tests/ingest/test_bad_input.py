"""What venues should not send: each is a counted event, and the path goes on with nothing lost."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from cexdex.config import assets, load
from cexdex.records.dead_letters import DeadLetter
from cexdex.records.quote import Quote
from cexdex.records.record import Record
from cexdex.records.venue_status import VenueStatus
from ingest.deadletters import DeadLetters
from ingest.feed import Channels, Feed, Fetch, Reconnect, Send, asked, venues
from ingest.listing import followed, listed_instrument, shown
from tests.ingest.test_cases import CASES

T0 = 1_787_612_486_000_000
SYMBOLS = {
    "binance": ("BTCUSDT", "BTC", "USDT"),
    "coinbase": ("BTC-USD", "BTC", "USD"),
    "kraken": ("BTC/USD", "BTC", "USD"),
}


def feed_of(venue: str) -> tuple[Feed, DeadLetters]:
    settings = load().venues[venue]
    symbol, base, quote = SYMBOLS[venue]
    entry = listed_instrument(
        venue, symbol, base, quote, settings, assets(), T0, status="trading", price_digits=1, size_digits=8
    )
    assert entry is not None
    feed = venues()[venue].feed([entry], settings, assets(), Channels(top_of_book=False, trades="trade"))
    list(feed.connected(T0))
    return feed, DeadLetters(venue, "ws.1", feed.counts)


def begun(venue: str) -> tuple[Feed, DeadLetters]:
    """A feed whose book is live, from the venue's own small recording."""
    feed, letters = feed_of(venue)
    name = {"binance": "gap", "coinbase": "maker_side", "kraken": "checksum"}[venue]
    [case] = [path for path in CASES if path.parent.name == venue and path.name == name]
    for text in (case / "frames.jsonl").read_text().splitlines():
        line = json.loads(text)
        if line["dir"] == "recv":
            letters.receive(feed, line["data"].encode(), T0 + 1)
        elif line["dir"] == "http":
            letters.fetched(feed, "snapshot:BTCUSDT", line["data"].encode(), T0 + 1)
        if feed.live():
            return feed, letters
    raise AssertionError(f"{venue} did not come alive")


def depth(bids: Any) -> bytes:
    data = {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": 104, "u": 104, "b": bids, "a": []}
    return json.dumps({"stream": "btcusdt@depth@100ms", "data": data}).encode()


def level2(number: int, **update: Any) -> bytes:
    change = {
        "side": "bid",
        "event_time": "2026-08-24T22:34:13Z",
        "price_level": "1",
        "new_quantity": "1",
        **update,
    }
    event = {"type": "update", "product_id": "BTC-USD", "updates": [change]}
    return json.dumps(
        {"channel": "l2_data", "timestamp": "x", "sequence_num": number, "events": [event]}
    ).encode()


def kraken_book(**fields: Any) -> bytes:
    data = {"symbol": "BTC/USD", "bids": [], "asks": [], "checksum": 1, **fields}
    return json.dumps({"channel": "book", "type": "update", "data": [data]}, separators=(",", ":")).encode()


UNREADABLE: list[tuple[str, str, Callable[[], bytes]]] = [
    ("binance", "torn", lambda: depth([["1", "1"]])[:-20]),
    ("binance", "nan", lambda: depth([["nan", "1"]])),
    ("binance", "infinite", lambda: depth([["100", "inf"]])),
    ("binance", "negative", lambda: depth([["100", "-1"]])),
    ("binance", "zero price", lambda: depth([["0", "1"]])),
    ("binance", "not json", lambda: b"\xff\xfe\x00"),
    ("binance", "unknown symbol", lambda: depth([["1", "1"]]).replace(b"BTCUSDT", b"XYZUSDT")),
    ("coinbase", "torn", lambda: level2(9)[:-9]),
    ("coinbase", "nan", lambda: level2(9, price_level="NaN")),
    ("coinbase", "a third side", lambda: level2(9, side="ask")),
    ("coinbase", "unknown product", lambda: level2(2).replace(b"BTC-USD", b"XYZ-USD")),
    ("coinbase", "unknown channel", lambda: b'{"channel":"futures","sequence_num":3,"events":[]}'),
    ("kraken", "torn", lambda: kraken_book()[:-3]),
    ("kraken", "nan", lambda: kraken_book(bids=[{"price": float("nan"), "qty": 1.0}])),
    ("kraken", "no checksum", lambda: kraken_book().replace(b'"checksum":1', b'"check":1')),
    ("kraken", "unknown symbol", lambda: kraken_book(symbol="XYZ/USD")),
]


@pytest.mark.parametrize(("venue", "what", "frame"), UNREADABLE, ids=[f"{v}: {w}" for v, w, _ in UNREADABLE])
def test_an_unreadable_frame_is_kept_as_a_dead_letter(
    venue: str, what: str, frame: Callable[[], bytes]
) -> None:
    feed, letters = begun(venue)
    outputs = letters.receive(feed, frame(), T0 + 50)
    [letter] = [output for output in outputs if isinstance(output, DeadLetter)]
    assert base64.b64decode(letter.payload) == frame()
    assert (letter.origin, letter.length) == (f"{venue}/ws.1", len(frame()))
    assert letter.error
    assert feed.counts["dead_letters"] == 1


@pytest.mark.parametrize("what", ["nan", "a third side"])
def test_a_coinbase_book_frame_that_cannot_be_read_spoils_the_book_it_would_have_changed(what: str) -> None:
    feed, letters = begun("coinbase")
    frame = level2(2, price_level="NaN") if what == "nan" else level2(2, side="ask")
    outputs = letters.receive(feed, frame, T0 + 50)
    assert any(isinstance(o, Quote) and o.state == "syncing" and o.bid is None for o in outputs)
    assert any(isinstance(o, Reconnect) for o in outputs)
    assert feed.live() == set()


def test_a_binance_book_frame_that_cannot_be_read_is_a_gap_at_the_next_one() -> None:
    feed, letters = begun("binance")
    letters.receive(feed, depth([["nan", "1"]]), T0 + 50)
    following = depth([["98.5", "1"]]).replace(b": 104", b": 105")
    outputs = letters.receive(feed, following, T0 + 60)
    [gap] = [o for o in outputs if isinstance(o, VenueStatus)]
    assert (gap.kind, gap.lost) == ("gap", 1)
    assert any(isinstance(o, Fetch) and o.kind == "depth" for o in outputs)
    assert feed.live() == set()


def test_no_more_than_ten_dead_letters_a_second_are_kept_and_the_rest_is_counted() -> None:
    feed, letters = feed_of("binance")
    kept = [o for n in range(25) for o in letters.receive(feed, b"{", T0 + n)]
    assert len(kept) == 10
    assert (feed.counts["dead_letters"], feed.counts["dead_letters_not_kept"]) == (25, 15)
    assert len(letters.receive(feed, b"{", T0 + 1_000_000)) == 1


def test_a_large_payload_is_cut_and_its_length_and_hash_are_the_whole_ones() -> None:
    feed, letters = feed_of("kraken")
    frame = b"x" * 100_000
    [letter] = letters.receive(feed, frame, T0)
    assert isinstance(letter, DeadLetter)
    assert (len(base64.b64decode(letter.payload)), letter.length) == (65_536, 100_000)


def test_a_crossed_book_is_replaced_after_one_complete_frame() -> None:
    feed, letters = begun("binance")
    crossing = depth([["105", "1"]])
    first = letters.receive(feed, crossing, T0 + 50)
    assert [o.reason for o in first if isinstance(o, Quote)] == ["crossed"]
    again = letters.receive(feed, crossing.replace(b": 104", b": 105"), T0 + 60)
    assert [o.kind for o in again if isinstance(o, VenueStatus)] == ["gap"]
    asks = letters.receive(feed, depth([["98", "1"]]).replace(b": 104", b": 106"), T0 + 70)
    assert any(isinstance(o, Fetch) for o in asks), "a new snapshot is asked for"


def test_a_kraken_book_that_stays_wrong_is_not_asked_for_in_a_tight_loop() -> None:
    feed, letters = begun("kraken")
    wrong = kraken_book()
    asked_again = [o for o in letters.receive(feed, wrong, T0 + 2_000_000) if isinstance(o, Send)]
    assert [json.loads(o.text)["method"] for o in asked_again] == ["unsubscribe", "subscribe"]
    for n in range(20):
        assert not [o for o in letters.receive(feed, wrong, T0 + 2_100_000 + n) if isinstance(o, Send)]


@pytest.mark.parametrize(
    ("venue", "frame"),
    [
        ("binance", b'{"code":2,"msg":"Invalid request","id":1}'),
        ("coinbase", b'{"type":"error","message":"no such product"}'),
        (
            "kraken",
            b'{"method":"subscribe","success":false,"error":"Currency pair not supported","req_id":1}',
        ),
    ],
)
def test_a_refused_subscription_ends_the_connection_with_the_venues_words(venue: str, frame: bytes) -> None:
    feed, letters = feed_of(venue)
    reasons = [o.reason for o in letters.receive(feed, frame, T0) if isinstance(o, Reconnect)]
    assert len(reasons) == 1
    assert "refused" in reasons[0]


def test_a_venue_in_maintenance_is_halted_and_comes_back_by_a_new_snapshot() -> None:
    feed, letters = begun("kraken")
    halted = letters.receive(
        feed, b'{"channel":"status","type":"update","data":[{"system":"maintenance"}]}', T0 + 9
    )
    assert [(o.state, o.reason) for o in halted if isinstance(o, Quote)] == [("halted", "halted")]
    online = letters.receive(
        feed, b'{"channel":"status","type":"update","data":[{"system":"online"}]}', T0 + 19
    )
    assert [json.loads(o.text)["method"] for o in online if isinstance(o, Send)] == [
        "unsubscribe",
        "subscribe",
    ]


@pytest.mark.parametrize("venue", ["binance", "coinbase", "kraken"])
def test_a_lost_connection_empties_every_quote_at_once(venue: str) -> None:
    feed, _ = begun(venue)
    records = [r for r in feed.lost("disconnected", T0 + 99) if isinstance(r, Record)]
    assert [(type(r).__name__, r.state, r.reason) for r in records if hasattr(r, "state")] == [
        ("Quote", "stale", "disconnected"),
        ("Book", "stale", "disconnected"),
    ]
    assert feed.live() == set()


@pytest.mark.parametrize("venue", ["coinbase", "kraken"])
def test_a_socket_without_a_heartbeat_is_given_up(venue: str) -> None:
    feed, _ = begun(venue)
    quiet = [o for at in range(1, 60) for o in feed.on_time(T0 + at * 100_000) if isinstance(o, Reconnect)]
    assert [o.reason for o in quiet][:1] == ["silent for 5 s"]


def test_binance_probes_a_quiet_symbol_and_believes_agreement_only() -> None:
    feed, letters = begun("binance")
    probes = [o for at in range(1, 20) for o in feed.on_time(T0 + at * 100_000) if isinstance(o, Fetch)]
    assert [(o.tag, o.kind, o.symbol) for o in probes] == [("probe:BTCUSDT", "depth", "BTCUSDT")]
    same = b'{"lastUpdateId":103,"bids":[["99","1"]],"asks":[["101","1"]]}'
    assert letters.fetched(feed, "probe:BTCUSDT", same, T0 + 2_000_000) == []
    assert feed.live()
    for at in range(20, 45):
        list(feed.on_time(T0 + at * 100_000))
    assert feed.live(), "proved current two seconds ago"
    other = b'{"lastUpdateId":103,"bids":[["99.5","1"]],"asks":[["101","1"]]}'
    outputs = letters.fetched(feed, "probe:BTCUSDT", other, T0 + 4_600_000)
    assert [o.kind for o in outputs if isinstance(o, VenueStatus)] == ["gap"]


def test_binance_gives_up_a_stream_that_the_venue_has_left_behind() -> None:
    feed, letters = begun("binance")
    ahead = b'{"lastUpdateId":110,"bids":[["99","1"]],"asks":[["101","1"]]}'
    letters.fetched(feed, "probe:BTCUSDT", ahead, T0 + 1_500_000)
    outputs = [o for at in range(16, 40) for o in feed.on_time(T0 + at * 100_000)]
    assert [o.reason for o in outputs if isinstance(o, Reconnect)] == [
        "BTCUSDT: the venue is ahead of its own stream"
    ]


def test_names_that_nobody_honest_uses_are_not_listed() -> None:
    settings = load().venues["binance"]
    for symbol in ("BTC\u202eUSDT", "BTC\x1b[31m", "B" * 40, ""):
        entry = listed_instrument("binance", "X", symbol, "USDT", settings, assets(), T0, status="trading")
        assert entry is None, repr(symbol)


def test_what_is_followed_and_what_is_only_shown() -> None:
    settings, config = load().venues["coinbase"], load()
    body = json.dumps(
        {
            "products": [
                {"product_id": f"{b}-{q}", "base_currency_id": b, "quote_currency_id": q, "status": "online", "alias": a}
                for b, q, a in [
                    ("BTC", "USD", ""), ("BTC", "USDC", "BTC-USD"), ("BTC", "EUR", ""), ("DOGE", "USD", ""),
                    ("USDT", "USD", ""), ("USDT", "USDC", ""), ("EURC", "USD", ""),
                ]
            ]
        }
    ).encode()  # fmt: skip
    listed = venues()["coinbase"].parse_listing(body, settings, assets(), T0)
    names = [entry.instrument.instrument for entry in followed(listed, config, assets())]
    assert names == ["coinbase:BTC-USD", "coinbase:USDT-USD", "coinbase:USDT-USDC"]
    extra = [e.instrument for e in shown(listed, config, assets()) if e.instrument.instrument not in names]
    assert [(i.instrument, i.alias_of) for i in extra] == [("coinbase:BTC-USDC", "coinbase:BTC-USD")]


def test_a_request_is_known_by_kind_and_symbol_and_never_by_host() -> None:
    assert asked("https://www.binance.com/api/v1/depth?symbol=DOTUSDT&limit=1000") == ("depth", "DOTUSDT")
    assert asked("https://api.coinbase.com/api/v3/brokerage/market/products") == ("products", "")


def test_a_kraken_book_frame_that_cannot_be_read_spoils_the_book_it_would_have_changed() -> None:
    feed, letters = begun("kraken")
    outputs = letters.receive(feed, kraken_book(bids=[{"price": float("nan"), "qty": 1.0}]), T0 + 2_000_000)
    assert [(o.state, o.reason) for o in outputs if isinstance(o, Quote)] == [("syncing", "gap")]
    assert [json.loads(o.text)["method"] for o in outputs if isinstance(o, Send)] == [
        "unsubscribe",
        "subscribe",
    ]
    assert any(isinstance(o, DeadLetter) for o in outputs)


def test_a_snapshot_does_not_make_a_halted_venue_live() -> None:
    feed, letters = begun("kraken")
    [case] = [path for path in CASES if path.name == "checksum"]
    frames = [json.loads(line)["data"] for line in (case / "frames.jsonl").read_text().splitlines()]
    snapshot = next(frame for frame in frames if '"type":"snapshot"' in frame)
    letters.receive(feed, b'{"channel":"status","type":"update","data":[{"system":"cancel_only"}]}', T0 + 9)
    assert letters.receive(feed, snapshot.encode(), T0 + 10) == []
    assert feed.live() == set()
    online = letters.receive(
        feed, b'{"channel":"status","type":"update","data":[{"system":"online"}]}', T0 + 19
    )
    assert [(o.started_at, o.ended_at) for o in online if isinstance(o, VenueStatus)] == [(T0 + 9, T0 + 19)]


def test_what_kraken_truncates_is_not_known_any_more() -> None:
    feed, letters = feed_of("kraken")
    symbol = feed._symbols["BTC/USD"]  # type: ignore[attr-defined]
    symbol._scale, symbol.depth = None, 10  # the checksum is another test's
    levels = [{"price": 100.0 - n, "qty": 1.0} for n in range(9)]
    snapshot = kraken_book(bids=levels, asks=[{"price": 101.0, "qty": 1.0}]).replace(
        b'"update"', b'"snapshot"'
    )
    letters.receive(feed, snapshot, T0)
    assert symbol.live._known[0] == 0.0
    letters.receive(feed, kraken_book(bids=[{"price": 91.0 - n, "qty": 1.0} for n in range(4)]), T0 + 1)
    assert symbol.live._known[0] == 91.0


@pytest.mark.parametrize(("venue", "since"), [("binance", 61), ("kraken", 16)])
def test_a_subscription_that_never_gives_a_book_is_given_up(venue: str, since: int) -> None:
    feed, letters = feed_of(venue)
    acks = {
        "binance": [b'{"result":null,"id":1}'],
        "kraken": [
            b'{"method":"subscribe","result":{"channel":"%s","symbol":"BTC/USD"},"success":true}' % channel
            for channel in (b"book", b"trade")
        ],
    }[venue]
    for ack in acks:
        letters.receive(feed, ack, T0)
    outputs = []
    for at in range(1, since * 10):
        outputs += list(feed.on_time(T0 + at * 100_000))
        if venue == "kraken":
            letters.receive(feed, b'{"channel":"heartbeat"}', T0 + at * 100_000)
    wanted = [o for o in outputs if isinstance(o, Reconnect | Send)]
    assert wanted, "silence after an acknowledgement is noticed"


def test_a_binance_snapshot_that_cannot_be_read_is_asked_for_again_and_nothing_grows() -> None:
    feed, letters = feed_of("binance")
    asked_first = letters.receive(feed, depth([["99", "1"]]), T0)
    assert [o.tag for o in asked_first if isinstance(o, Fetch)] == ["snapshot:BTCUSDT"]
    letters.fetched(feed, "snapshot:BTCUSDT", b"<html>", T0 + 100)
    again = [o for o in feed.on_time(T0 + 100_000) if isinstance(o, Fetch)]
    assert [o.tag for o in again] == ["snapshot:BTCUSDT"]
    too_old = b'{"lastUpdateId":50,"bids":[["99","1"]],"asks":[["101","1"]]}'
    letters.receive(feed, depth([["99", "1"]]).replace(b": 104", b": 105"), T0 + 100_001)
    assert letters.fetched(feed, "snapshot:BTCUSDT", too_old, T0 + 200_000) == [], "not in a tight loop"
    later = [o for at in range(3, 15) for o in feed.on_time(T0 + at * 100_000) if isinstance(o, Fetch)]
    assert [o.tag for o in later] == ["snapshot:BTCUSDT"]


def test_an_unknown_product_in_a_frame_does_not_cost_the_known_ones_their_update() -> None:
    feed, letters = begun("coinbase")
    frame = json.loads(level2(2, price_level="100.02"))
    frame["events"].insert(0, {**frame["events"][0], "product_id": "XYZ-USD"})
    outputs = letters.receive(feed, json.dumps(frame).encode(), T0 + 50)
    assert [o.bid for o in outputs if isinstance(o, Quote)] == [100.02]
    assert any(isinstance(o, DeadLetter) for o in outputs)
