"""Which assets are of one kind, and the market that two of them make."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

REFUSED = ""


@dataclass(frozen=True, slots=True)
class Assets:
    """The registry of `assets.toml`: what folds into which kind, and how a market is oriented."""

    kind_of: Mapping[str, str]
    rank: Mapping[str, int]
    last: tuple[str, ...]
    codes: Mapping[str, Mapping[str, str]]

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Assets:
        """Reads the parsed `assets.toml`. ValueError when an asset is listed under two kinds."""
        kind_of: dict[str, str] = {}
        for kind, entry in document["kinds"].items():
            for asset in (kind, *entry.get("members", ())):
                if kind_of.setdefault(asset, kind) != kind:
                    raise ValueError(f"asset {asset} is listed under {kind_of[asset]} and under {kind}")
        return cls(
            kind_of=kind_of,
            rank={kind: int(entry["rank"]) for kind, entry in document["kinds"].items()},
            last=tuple(document["order"]["last"]),
            codes=document.get("codes", {}),
        )

    def named(self, venue: str, code: str) -> str:
        """Our name for a venue's asset code; '' for a code no honest venue would use (DESIGN §12)."""
        code = unicodedata.normalize("NFC", code)
        code = self.codes.get(venue, {}).get(code, code)
        return code.upper() if clean_symbol(code) else REFUSED

    def kind(self, asset: str) -> str:
        """What an asset folds into: itself unless `assets.toml` lists it."""
        return self.kind_of.get(asset, asset)

    def market(self, base: str, quote: str) -> tuple[str, bool]:
        """The market of an instrument and whether the instrument is listed the other way round.

        Two assets of one kind make a market of their own under unfolded names (USDT-USD, WBTC-BTC).
        """
        first, second = self.kind(base), self.kind(quote)
        if first == second:
            first, second = base, quote
            inverted = self._inner(first) > self._inner(second)
        else:
            inverted = self._outer(first) > self._outer(second)
        return (f"{second}-{first}", True) if inverted else (f"{first}-{second}", False)

    def is_rate_source(self, base: str, quote: str) -> bool:
        """Whether an instrument tells what a quote asset is worth: both sides are of one kind, or both are money."""
        return self.kind(base) == self.kind(quote) or (self._is_money(base) and self._is_money(quote))

    def _is_money(self, asset: str) -> bool:
        return self.rank.get(self.kind(asset), 0) >= 50

    def _outer(self, kind: str) -> tuple[int, str]:
        return self.rank.get(kind, 0), kind

    def _inner(self, asset: str) -> tuple[int, str]:
        if asset in self.rank:
            return len(self.last) + 1, asset
        return (self.last.index(asset) + 1 if asset in self.last else 0), asset


def clean_symbol(text: str) -> bool:
    """Whether a symbol may be shown: printable, no bidi or control characters, 1 to 32 characters."""
    return 0 < len(text) <= 32 and text.isprintable() and " " not in text and not any(map(_bidi, text))


def _bidi(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc", "Co", "Cs", "Zl", "Zp")
