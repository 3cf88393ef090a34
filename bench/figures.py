"""How figures are told: the median of several repetitions with the least and the greatest, beside what is to be reached."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One measured number over its repetitions, and what it must reach."""

    name: str
    values: Sequence[float]
    unit: str
    goal: float | None = None
    better: Literal["more", "less"] = "more"

    def text(self) -> str:
        if not self.values:
            return f"  {self.name:<58} not measured"
        middle = median(self.values)
        spread = f"({number(min(self.values))} to {number(max(self.values))})" if len(self.values) > 1 else ""
        line = f"  {self.name:<58} {number(middle):>9} {self.unit:<9} {spread:<22}"
        if self.goal is None:
            return line.rstrip()
        reached = middle >= self.goal if self.better == "more" else middle <= self.goal
        sign = "≥" if self.better == "more" else "≤"
        return f"{line} must be {sign} {number(self.goal)}: {'reached' if reached else 'NOT REACHED'}"


def number(value: float) -> str:
    """Three significant figures, thousands apart."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of them lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def tell(title: str, figures: Sequence[Figure], notes: Sequence[str] = ()) -> None:
    print(f"\n{title}")
    for figure in figures:
        print(figure.text())
    for note in notes:
        print(f"  {note}")
