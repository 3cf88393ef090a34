"""When a spread is said: the rule of the contract, word by word."""

from __future__ import annotations

import pytest

from cexdex.domain.murmur2 import phase_of
from tests.processors.market import T0, S, booked, listed, quoted
from tests.processors.told import A, B, Told, edge


class TestWhenItIsSaid:
    def started(self) -> Told:
        """No fees; A asks 100, B bids 100: the edge stands at 0 bps, so that a price move of 0.01 is 1 bp."""
        told = Told(listed(A, fee=0), listed(B, fee=0))
        told.tell(quoted(A, 99.9, 100.0, T0))
        told.tell(quoted(B, 100.0, 101.0, T0))
        return told

    def bid(self, told: Told, price: float, at: int = 0) -> list[float]:
        said = told.tell(quoted(B, price, 101.0, T0 + 1 + at))
        return [round(s.net_bps, 6) for s in said if s.buy == A]

    def test_a_move_of_a_step_since_the_last_record(self) -> None:
        told = self.started()
        assert self.bid(told, 100.009) == []
        assert self.bid(told, 100.0101) == [1.01]
        assert self.bid(told, 100.0195) == []
        assert self.bid(told, 100.0002) == []
        assert self.bid(told, 100.0) == [0.0]

    def test_below_the_floor_nothing_but_the_passing(self) -> None:
        told = self.started()
        assert self.bid(told, 99.801) == [-19.9]
        assert self.bid(told, 99.799) == [-20.1]
        assert self.bid(told, 99.5) == []
        assert self.bid(told, 99.79) == []
        assert self.bid(told, 99.8001) == [-19.99]

    def test_every_edge_at_its_own_point_of_ten_seconds(self) -> None:
        told = self.started()
        told.tell(quoted(A, 99.9, 100.0, T0 + 2 * S))
        said = told.pass_to(T0 + 30 * S)
        for buy, sell in ((A, B), (B, A)):
            at = [s.received_at for s in said if s.buy == buy and s.reason == "stale_leg"]
            own = T0 + phase_of(f"{buy}>{sell}") * 100_000
            due = {own + n * 10 * S for n in range(4) if T0 + 3_100_000 <= own + n * 10 * S <= T0 + 30 * S}
            assert due <= set(at)
            assert set(at) - due <= {T0 + 3_100_000}

    def test_a_size_that_becomes_or_ceases_to_be_fillable(self) -> None:
        told = self.started()
        told.tell(booked(A, [(99.9, 1.0)], [(100.0, 1.0)], T0))
        said = told.tell(booked(B, [(100.0, 1.0)], [(101.0, 1.0)], T0))
        assert edge(said).sizes[0].net_bps == pytest.approx(0)
        [gone] = [s for s in told.tell(booked(B, [], [], T0 + 1, state="syncing")) if s.buy == A]
        assert (gone.valid, gone.sizes[0].reason) == (True, "syncing")

    def test_ordinals_number_what_one_moment_says_of_an_edge(self) -> None:
        told = self.started()
        told.tell(quoted(B, 100.1, 101.0, T0 + 1))
        [second] = [s for s in told.tell(quoted(B, 100.2, 101.0, T0 + 1)) if s.buy == A]
        [third] = [s for s in told.tell(quoted(B, 100.3, 101.0, T0 + 2)) if s.buy == A]
        assert (second.received_at, second.ordinal) == (T0 + 1, 1)
        assert (third.received_at, third.ordinal) == (T0 + 2, 0)
        assert third.source_offset == told.offset

    def test_a_quote_that_only_renews_says_nothing(self) -> None:
        told = self.started()
        assert told.tell(quoted(A, 99.9, 100.0, T0 + 1)) == []
