"""Positions and their P&L as `pnl.positions` tells them: the newest row of each, as exact decimals.

**Failure** A ring holds its newest rows only: where it has gone round, positions whose last row is older are not shown,
and that is said. The view `positions` of consumers.history has every row that was stored.
"""

from typing import Any, NamedTuple

import numpy as np

from layouts import POSITION, CostMethod, Kind, MarkKind, PositionFault
from layouts.position import join_words
from ops.rings import decimal_text, read_scales
from shm.reader import open_reader
from shm.registry import parse_ring

RING = "pnl.positions"
SUMS = ("realised", "unrealised", "carried", "fees", "realised_total", "fees_total")


class Positions(NamedTuple):
    """The newest row of each account and instrument; `overwritten`: rows that the ring no longer holds."""

    rows: np.ndarray
    overwritten: int


def read_positions(instance: str, account: int | None = None) -> Positions:
    """Return the newest row of each position, in the order of accounts and instruments.

    Raises:
        NoRing: there is no pnl worker.
    """
    with open_reader(parse_ring(RING, instance), POSITION) as reader:
        records, info = reader.last(reader.facts().slots)
        first = reader.facts().first_seq
    rows = records[(records["kind"] == Kind.POSITION) & (records["fills"] > 0)]
    if account is not None:
        rows = rows[rows["account"] == account]
    keys = rows["account"].astype(np.int64) << 16 | rows["instrument_id"]
    _, newest = np.unique(keys[::-1], return_index=True)
    return Positions(rows[::-1][newest], int(info.first_seq) - first)


def money_of(row: np.void, name: str) -> int:
    """Return a sum of a row, at its money_scale."""
    return join_words(row[f"{name}_low"], row[f"{name}_high"])


def described(instance: str, rows: np.ndarray) -> list[dict[str, Any]]:
    """Return rows as dictionaries of plain values; numbers as decimal strings."""
    scales = read_scales(instance)
    found = []
    for row in rows:
        instrument_id = int(row["instrument_id"])
        known = scales.get(instrument_id)
        money = {name: money_of(row, name) for name in (*SUMS, "cost")}
        day = money["realised"] + money["unrealised"] - money["carried"] - money["fees"]
        scale = int(row["money_scale"])
        found.append(
            {
                "account": int(row["account"]),
                "instrument_id": instrument_id,
                "symbol": known.symbol if known else "",
                "venue": known.venue if known else "",
                "currency": bytes(row["quote_currency"]).decode(),
                "qty": decimal_text(int(row["qty"]), int(row["qty_scale"])),
                "average_price": decimal_text(int(row["average_price"]), int(row["mark_scale"])),
                "mark_price": decimal_text(int(row["mark_price"]), int(row["mark_scale"])),
                "mark": MarkKind(int(row["mark_kind"])).name.lower(),
                **{name: decimal_text(value, scale) for name, value in money.items()},
                "day_pnl": decimal_text(day, scale),
                "fills": int(row["fills"]),
                "lots": int(row["lots"]),
                "method": CostMethod(int(row["method"])).name.lower(),
                "day_no": int(row["day_no"]),
                "ts_event": int(row["ts_event"]),
                "faults": [fault.name for fault in PositionFault if int(row["faults"]) & fault],
            }
        )
    return found


def totals(rows: np.ndarray) -> list[dict[str, Any]]:
    """Return the sums of each account and currency; currencies are never added up here.

    Realised, fees and carried are those of the newest day among the account's positions: an older row's day is over.
    """
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for row in rows:
        key = int(row["account"]), bytes(row["quote_currency"]).decode()
        mine = rows[(rows["account"] == row["account"])]
        is_today = int(row["day_no"]) == int(mine["day_no"].max())
        scale = int(row["money_scale"])
        total = found.setdefault(
            key, {"positions": 0, "scale": 0, "faults": 0, **dict.fromkeys(SUMS, 0)}
        )
        wider = max(scale, total["scale"])
        for name in SUMS:
            ended = not is_today and name in ("realised", "fees")
            value = 0 if ended else money_of(row, name)
            if not is_today and name == "carried":
                value = money_of(row, "unrealised")
            total[name] = total[name] * 10 ** (wider - total["scale"]) + value * 10 ** (
                wider - scale
            )
        total["scale"] = wider
        total["positions"] += int(row["qty"] != 0)
        total["faults"] |= int(row["faults"])
    return [
        _total(account, currency, total) for (account, currency), total in sorted(found.items())
    ]


def _total(account: int, currency: str, total: dict[str, Any]) -> dict[str, Any]:
    sums = {name: total[name] for name in SUMS}
    sums["day_pnl"] = sums["realised"] + sums["unrealised"] - sums["carried"] - sums["fees"]
    sums["total_pnl"] = sums["realised_total"] + sums["unrealised"] - sums["fees_total"]
    return {
        "account": account,
        "currency": currency,
        "positions": total["positions"],
        **{name: decimal_text(value, total["scale"]) for name, value in sums.items()},
        "faults": [fault.name for fault in PositionFault if total["faults"] & fault],
    }
