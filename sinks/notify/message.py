"""What a desk is told of an alert: both venues, the size, what is left after costs, and how far it can be believed."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

from cexdex.records.alerts import Alert, AlertContext
from cexdex.runtime.logs import harmless


def webhook_id(alert: Alert) -> str:
    """The same for every attempt, at every target, after every restart."""
    text = f"{alert.alert_id}|{alert.state}|{alert.received_at}"
    return "alert_" + hashlib.sha256(text.encode()).hexdigest()[:32]


def title(alert: Alert) -> str:
    """`FIRING worth-a-look BTC-USD +8.20 bps`."""
    value = "" if alert.value is None else f" {alert.value:+.2f} bps"
    return harmless(f"{alert.state.upper()} {alert.rule} {alert.market}{value}")


def line(alert: Alert) -> str:
    """All of it in one line, for a terminal. Holds no control characters, whoever named the instruments."""
    at = datetime.fromtimestamp(alert.received_at / 1e6, UTC).strftime("%H:%M:%S")
    return f"{at} {title(alert)}: " + "; ".join(_parts(alert))


def body(alert: Alert) -> str:
    """A line each, for chat and mail. Plain text without markup."""
    return "\n".join(_parts(alert))


def sample(at: int) -> Alert:
    """A made-up alert, to try a target with."""
    context = AlertContext(
        buy="kraken:BTC-USD",
        sell="binance:BTC-USDT",
        buy_price=100.0,
        sell_price=100.1,
        buy_vwap=None,
        sell_vwap=None,
        gross_bps=10.0,
        net_bps=5.0,
        net_converted_bps=4.0,
        conversion_bps=1.0,
        profit_usd=0.5,
        deviation_bps=None,
        buy_age_us=0,
        sell_age_us=0,
        rate_age_us=0,
        rate_state="live",
        spread_received_at=at,
        spread_ordinal=0,
    )
    return Alert(
        event_time=None,
        received_at=at,
        market="BTC-USD",
        source_offset=0,
        alert_id=f"test-{at}",
        rule="test",
        edge="kraken:BTC-USD>binance:BTC-USDT",
        size="touch",
        state="firing",
        reason=None,
        value=5.0,
        threshold=4.0,
        peak=5.0,
        started_at=at,
        deliver=True,
        context=context,
    )


def _parts(alert: Alert) -> list[str]:
    context = alert.context
    size = "at the touch" if alert.size == "touch" else f"for {alert.size} USD"
    parts = [
        f"buy {context.buy} at {_price(context.buy_vwap, context.buy_price)},"
        f" sell {context.sell} at {_price(context.sell_vwap, context.sell_price)} {size}",
        f"net {_bps(context.net_bps)}, gross {_bps(context.gross_bps)},"
        f" after conversion {_bps(context.net_converted_bps)} (conversion {_bps(context.conversion_bps)})",
        f"profit {_usd(context.profit_usd)}",
        f"rule: {_bps(alert.value)} against {alert.threshold:g} bps, peak {_bps(alert.peak)},"
        f" for {(alert.received_at - alert.started_at) / 1e6:.1f} s",
        f"ages: buy {_age(context.buy_age_us)}, sell {_age(context.sell_age_us)},"
        f" rate {_age(context.rate_age_us)} ({context.rate_state})",
        f"off the market's median by {_bps(context.deviation_bps)}; transfers unknown",
    ]
    if alert.reason is not None:
        parts.insert(0, f"because: {alert.reason}")
    return [harmless(part) for part in parts]


def _price(vwap: float | None, touch: float | None) -> str:
    price = touch if vwap is None else vwap
    if price is None:
        return "unknown"
    return f"{price:,.2f}" if price >= 1000 else f"{price:.6g}"


def _bps(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.2f} bps"


def _usd(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.2f} USD"


def _age(age_us: int | None) -> str:
    return "unknown" if age_us is None else f"{age_us / 1e6:.2f} s"
