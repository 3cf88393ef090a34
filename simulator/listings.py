"""What the simulated venues list, with each venue's own steps, minimums and fees."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Listing:
    """One instrument of one venue. Prices and sizes are whole numbers of the last decimal that the venue quotes."""

    instrument: str
    venue: str
    symbol: str
    base: str
    quote: str
    price_decimals: int
    size_decimals: int
    half_spread_bps: float
    reach_bps: float
    """How far from the touch the book extends."""
    levels: int
    level_usd: float
    """Typical size of a level near the touch."""
    weight: float
    """Share of the venue's activity."""
    taker_fee_bps: float

    @property
    def market(self) -> str:
        """The assets with dollars folded together, which is how spreads are looked for."""
        return f"{self.base}-USD" if self.base not in DOLLARS else f"{self.base}-{self.quote}"

    @property
    def price_scale(self) -> int:
        return int(10**self.price_decimals)

    @property
    def size_scale(self) -> int:
        return int(10**self.size_decimals)

    @property
    def deletes_unknown_levels(self) -> bool:
        """Routine on Binance and Coinbase, never seen on Kraken."""
        return self.venue != "kraken"


DOLLARS = frozenset({"USD", "USDT", "USDC"})

# How long each venue takes to follow the efficient price: the truth that lead-lag estimates are held against.
LAG_US = {"binance": 10_000, "coinbase": 120_000, "kraken": 300_000}

LISTINGS: tuple[Listing, ...] = (
    Listing("binance:BTC-USDT", "binance", "BTCUSDT", "BTC", "USDT", 2, 5, 0.2, 400, 650, 12_000, 8, 10),
    Listing("binance:BTC-USDC", "binance", "BTCUSDC", "BTC", "USDC", 2, 5, 0.4, 400, 450, 9_000, 3, 10),
    Listing("binance:ETH-USDT", "binance", "ETHUSDT", "ETH", "USDT", 2, 4, 0.3, 400, 600, 9_000, 5, 10),
    Listing("binance:ETH-USDC", "binance", "ETHUSDC", "ETH", "USDC", 2, 4, 0.6, 400, 450, 7_000, 3, 10),
    Listing("binance:USDC-USDT", "binance", "USDCUSDT", "USDC", "USDT", 5, 0, 0.2, 300, 250, 60_000, 1.5, 10),
    Listing("coinbase:BTC-USD", "coinbase", "BTC-USD", "BTC", "USD", 2, 8, 0.3, 450, 700, 10_000, 7, 120),
    Listing("coinbase:ETH-USD", "coinbase", "ETH-USD", "ETH", "USD", 2, 8, 0.5, 450, 650, 8_000, 5, 120),
    Listing(
        "coinbase:USDT-USD", "coinbase", "USDT-USD", "USDT", "USD", 5, 2, 0.3, 300, 250, 40_000, 1.5, 120
    ),
    Listing("kraken:BTC-USD", "kraken", "BTC/USD", "BTC", "USD", 1, 8, 0.4, 400, 600, 9_000, 5, 40),
    Listing("kraken:BTC-USDT", "kraken", "BTC/USDT", "BTC", "USDT", 1, 8, 0.8, 400, 450, 7_000, 3, 40),
    Listing("kraken:ETH-USD", "kraken", "ETH/USD", "ETH", "USD", 2, 8, 0.6, 400, 600, 7_000, 4, 40),
    Listing("kraken:ETH-USDT", "kraken", "ETH/USDT", "ETH", "USDT", 2, 8, 1.0, 400, 450, 6_000, 3, 40),
    Listing("kraken:USDT-USD", "kraken", "USDT/USD", "USDT", "USD", 5, 8, 0.3, 300, 300, 50_000, 1.5, 20),
    Listing("kraken:USDC-USD", "kraken", "USDC/USD", "USDC", "USD", 4, 8, 0.6, 300, 250, 50_000, 1.5, 20),
)


def listed(instrument: str) -> Listing:
    for listing in LISTINGS:
        if listing.instrument == instrument:
            return listing
    raise KeyError(f"{instrument} is not simulated")


def of_venue(venue: str) -> tuple[Listing, ...]:
    return tuple(listing for listing in LISTINGS if listing.venue == venue)
