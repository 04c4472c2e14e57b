"""Risk decided slowly: everything worked out anew from all that has happened, in plain fractions.

It shares nothing with the kernel but the layouts. Prices have 2 digits and quantities 3, as in `risk_kit`.
"""

from fractions import Fraction
from math import ceil, floor
from typing import NamedTuple

import numpy as np
from risk_kit import CURRENCIES, NAMES

from layouts import Check, Kind, Mark, RiskReason, Scope, TradingState

DAY_NS = 86_400_000_000_000
KEYS = {1: "account", 2: "instrument"}
HALF = Fraction(1, 2 * 10**18)
"""What a converted part of a sum is rounded to."""


class Limit(NamedTuple):
    """What a limit is about."""

    check: int
    scope: int
    account: int
    name: str


class Reference:
    """All that happened, and the rules."""

    def __init__(self) -> None:
        self.fills: list[tuple[int, int, int, Fraction, Fraction, Fraction]] = []
        self.standing: dict[int, tuple[int, int, int, int]] = {}
        self.tops: dict[int, tuple[int, int]] = {}
        self.live: dict[int, bool] = {}
        self.marks: dict[int, list[tuple[int, Fraction]]] = {}
        self.limits: dict[Limit, Fraction] = {}
        self.state = TradingState.ACTIVE
        self.collar = 0
        self.day = 0
        self.rates: dict[str, Fraction | int] = {}
        """By currency: a number, or the instrument whose mid it is."""
        self.seen: dict[int, int] = {}
        self.rate_age = 0
        self.now = 0
        self.observed: Fraction | None = None
        """What was told of a limit that refused."""

    def quote(self, record: np.void, live: bool) -> None:
        """A top of the book."""
        number = int(record["instrument_id"])
        bid, ask = int(record["word_0"]), int(record["word_2"])
        self.tops[number], self.live[number] = (bid, ask), live
        self.seen[number] = max(self.seen.get(number, 0), int(record["ts_recv"]))
        if live and bid < ask:
            mark = Fraction(bid + ask, 200)
            self.marks.setdefault(number, []).append((int(record["ts_recv"]) // DAY_NS, mark))

    def decide(self, record: np.void) -> RiskReason:
        """Return the reason of an ORDER's refusal, NONE where it is accepted; book a FILL or CANCEL."""
        kind = Kind(int(record["kind"]))
        if kind is not Kind.CANCEL:
            self.day = max(self.day, int(record["ts_recv"]) // DAY_NS)
        side = 1 if record["marks"] & Mark.BUY else -1
        account, number = int(record["account"]), int(record["instrument_id"])
        qty, order_id = int(record["qty"]), int(record["order_id"])
        if kind is Kind.CANCEL:
            return (
                RiskReason.NONE if self.standing.pop(order_id, None) else RiskReason.UNKNOWN_ORDER
            )
        if kind is Kind.FILL:
            return self._book(record, side, account, number, qty, order_id)
        self.now, self.observed = int(record["ts_recv"]), None
        found = self._judge(record, side, account, number, qty)
        if found is RiskReason.NONE:
            self.standing[order_id] = (account, number, side, qty)
        return found

    def _book(
        self, record: np.void, side: int, account: int, number: int, qty: int, order_id: int
    ) -> RiskReason:
        price, fee = Fraction(int(record["price"]), 100), Fraction(int(record["fee"]), 100)
        self.marks.setdefault(number, []) or self.marks[number].append((0, price))
        self.fills.append((self.day, account, number, Fraction(side * qty, 1000), price, fee))
        stands = self.standing.get(order_id)
        if stands is None:
            return RiskReason.UNKNOWN_ORDER
        left = stands[3] - qty
        if left > 0:
            self.standing[order_id] = (*stands[:3], left)
        else:
            del self.standing[order_id]
        return RiskReason.NONE

    def _judge(self, record: np.void, side: int, account: int, number: int, qty: int) -> RiskReason:
        if qty <= 0:
            return RiskReason.BAD_QTY
        if record["price"] <= 0:
            return RiskReason.BAD_PRICE
        held = self.held(account, number)
        if self.state is TradingState.HALTED:
            return RiskReason.HALTED
        standing = self.open_qty(account, number, side)
        if self.state is TradingState.REDUCING and (
            side * held >= 0 or standing + qty > abs(held * 1000)
        ):
            return RiskReason.NOT_REDUCING
        if not self.live.get(number):
            return RiskReason.BOOK_NOT_LIVE
        bid, ask = self.tops[number]
        if bid >= ask:
            return RiskReason.BOOK_CROSSED
        mid, price = Fraction(bid + ask, 200), Fraction(int(record["price"]), 100)
        if self.collar and abs(price - mid) > mid * Fraction(self.collar, 10_000):
            return RiskReason.PRICE_COLLAR
        return self._limits(account, number, side, qty)

    def _limits(self, account: int, number: int, side: int, qty: int) -> RiskReason:
        before = self.worst(account, number)
        after = self.worst(account, number, (side, qty))
        growth = after - before
        opens = 0 if before else 1
        at_once = [(Check.ORDER_SIZE, lambda _: Fraction(qty, 1000))]
        growing = [
            (Check.POSITION_SIZE, lambda _: after),
            (Check.EXPOSURE, lambda within: self.exposure(within) + growth * self.mark(number)),
            (Check.OPEN_POSITIONS, lambda within: self.positions(within) + opens),
            (Check.DAILY_LOSS, None),
        ]
        for check, observed in at_once + (growing if growth > 0 else []):
            if check is Check.OPEN_POSITIONS and not opens:
                continue
            if check is Check.EXPOSURE and (bad := self._bad_rate(account, number)):
                return bad
            for scope in Scope:
                limit = self.limit_of(check, scope, account, number)
                if limit is None:
                    continue
                within = self._within(scope, account, number)
                if check is Check.EXPOSURE:
                    seen = self._sum(within, scope, number, growth * self.mark(number))
                elif check is Check.DAILY_LOSS:
                    seen = -self._sum(within, scope, number, None)
                else:
                    seen = observed(within)
                if seen > limit:
                    self.observed = seen
                    return RiskReason(10 * check + scope)
        return RiskReason.NONE

    def _sum(
        self, within: set[tuple[int, int]], scope: int, number: int, more: Fraction | None
    ) -> Fraction:
        """Return exposure with `more` of an instrument's currency, or where that is None profit, in one currency."""
        total = Fraction(0)
        for currency in {CURRENCIES.get(n, "USD") for _, n in within}:
            mine = {each for each in within if CURRENCIES.get(each[1], "USD") == currency}
            part = self.profit(mine) if more is None else self.exposure(mine)
            if more is not None and currency == CURRENCIES.get(number, "USD"):
                part += more
            if currency != "USD" and scope not in (Scope.INSTRUMENT, Scope.CURRENCY) and part:
                exact = part * self._rate(currency) / HALF
                part = HALF * (floor(exact) if more is None else ceil(exact))
            total += part
        return total

    def _rate(self, currency: str) -> Fraction:
        rate = self.rates[currency]
        return Fraction(sum(self.tops[rate]), 200) if isinstance(rate, int) else rate

    def _bad_rate(self, account: int, number: int) -> RiskReason | None:
        """Return why a rate that the limits over an order need is not to be used."""
        for scope in (Scope.VENUE, Scope.ACCOUNT, Scope.PORTFOLIO):
            within = self._within(scope, account, number)
            for check, amount in ((Check.EXPOSURE, self.exposure), (Check.DAILY_LOSS, self.profit)):
                if self.limit_of(check, scope, account, number) is None:
                    continue
                for currency in {CURRENCIES[n] for _, n in within if n in CURRENCIES}:
                    mine = {each for each in within if CURRENCIES.get(each[1]) == currency}
                    asked = amount(mine) != 0 or CURRENCIES.get(number) == currency
                    if asked and (bad := self._why_bad(currency)):
                        return bad
        return None

    def _why_bad(self, currency: str) -> RiskReason | None:
        rate = self.rates.get(currency)
        if rate is None:
            return RiskReason.OTHER_CURRENCY
        if not isinstance(rate, int):
            return None
        if rate not in self.tops:
            return RiskReason.RATE_UNKNOWN
        if not self.live[rate]:
            return RiskReason.RATE_NOT_LIVE
        if self.rate_age and self.now - self.seen[rate] > self.rate_age:
            return RiskReason.RATE_OLD
        bid, ask = self.tops[rate]
        return RiskReason.RATE_CROSSED if bid >= ask else None

    def limit_of(self, check: int, scope: int, account: int, number: int) -> Fraction | None:
        """Return the most particular limit."""
        venue, symbol = NAMES[number].venue, NAMES[number].symbol
        name = {
            Scope.INSTRUMENT: f"{venue}:{symbol}",
            Scope.VENUE: venue,
            Scope.CURRENCY: CURRENCIES.get(number, "USD"),
        }
        whose = 0 if scope == Scope.PORTFOLIO else account
        for of, what in (
            (whose, name.get(scope, "")),
            (whose, ""),
            (0, name.get(scope, "")),
            (0, ""),
        ):
            if (found := self.limits.get(Limit(check, scope, of, what))) is not None:
                return found
        return None

    def _within(self, scope: int, account: int, number: int) -> set[tuple[int, int]]:
        """Return the positions (account, instrument) of a scope."""
        everything = {(a, n) for _, a, n, *_ in self.fills}
        everything |= {(a, n) for a, n, _, _ in self.standing.values()} | {(account, number)}
        venue = NAMES[number].venue
        keep = {
            Scope.INSTRUMENT: lambda a, n: (a, n) == (account, number),
            Scope.VENUE: lambda a, n: a == account and NAMES[n].venue == venue,
            Scope.CURRENCY: lambda a, n: (
                a == account and CURRENCIES.get(n) == CURRENCIES.get(number)
            ),
            Scope.ACCOUNT: lambda a, _: a == account,
            Scope.PORTFOLIO: lambda _a, _n: True,
        }[Scope(scope)]
        return {each for each in everything if keep(*each)}

    def held(self, account: int, number: int, before_day: int | None = None) -> Fraction:
        """Return a position, that of the end of the days before if asked for."""
        return sum(
            (
                qty
                for day, a, n, qty, _, _ in self.fills
                if (a, n) == (account, number) and (before_day is None or day < before_day)
            ),
            Fraction(0),
        )

    def open_qty(self, account: int, number: int, side: int) -> int:
        """Return what stands on one side, in thousandths."""
        mine = (account, number, side)
        return sum(left for *whose, left in self.standing.values() if tuple(whose) == mine)

    def worst(self, account: int, number: int, more: tuple[int, int] = (0, 0)) -> Fraction:
        """Return the largest position that may come of what stands, and of one order more."""
        qty = self.held(account, number)
        buys, sells = (self.open_qty(account, number, side) for side in (1, -1))
        buys += more[1] if more[0] > 0 else 0
        sells += more[1] if more[0] < 0 else 0
        return max(abs(qty), abs(qty + Fraction(buys, 1000)), abs(qty - Fraction(sells, 1000)))

    def mark(self, number: int) -> Fraction:
        """Return the newest mark."""
        return self.marks[number][-1][1] if self.marks.get(number) else Fraction(0)

    def opening_mark(self, number: int) -> Fraction:
        """Return the mark with which the day began."""
        earlier = [mark for day, mark in self.marks[number] if day < self.day]
        return earlier[-1] if earlier else self.mark(number)

    def exposure(self, within: set[tuple[int, int]]) -> Fraction:
        """Return what the positions may come to, in money."""
        return sum((self.worst(a, n) * self.mark(n) for a, n in within), Fraction(0))

    def positions(self, within: set[tuple[int, int]]) -> int:
        """Return how many positions are open or may become so."""
        return sum(1 for a, n in within if self.worst(a, n))

    def profit(self, within: set[tuple[int, int]]) -> Fraction:
        """Return what the day has brought."""
        total = Fraction(0)
        for a, n in within:
            for day, of, number, qty, price, fee in self.fills:
                if (of, number) == (a, n) and day == self.day:
                    total -= qty * price + fee
            total += self.held(a, n) * self.mark(n) if self.marks.get(n) else 0
            before = self.held(a, n, self.day)
            total -= before * self.opening_mark(n) if before else 0
        return total
