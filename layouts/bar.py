"""BAR: one closed bar of one instrument and one series, its prices and quantities the integers that the trades had.

**Layout** header (32 B; kind BAR; ts_event is ts_close; ts_recv of the causing record; of marks only the state: the least
trusted of the bar's trades, an empty bar's that of the last trade), then
    32   source_epoch  i64   the bar was closed by this record of the source ring,
    40   source_seq    i64
    48   source_index  u32   as row `source_index` of the
    52   source_count  u32   `source_count` rows which that record caused; 0: a HEARTBEAT's, whose rows are not counted ahead
    56   bar_kind      u16   `BarKind`
    58   bar_flags     u16   `BarFlag`
    60   skipped       u32   empty windows between the row before and this one that were left out (`EMPTY` below)
    64   parameter     i64   TIME, SESSION: ns of the window; TICK: trades; VOLUME, DOLLAR: millionths of the base, of the quote
                             currency; IMBALANCE: trades that the first bar is expected to take
    72   bar_no        i64   rows of this series before this one
    80   instrument_version i64   prices below have that version's price_scale, quantities its qty_scale; 0: the newest
    88   ts_open       i64   TIME, SESSION: the window is ts_open <= ts_event < ts_close; else ts_event of the first trade
    96   ts_close      i64   and of the last one
    104  open, high, low, close               4 x i64
    136  volume, buy_volume, sell_volume      3 x i64; by the taker's side; what has none is in volume alone
    160  value_low, value_high                2 x i64, sum of price x qty as a 128-bit integer (low word's bits unsigned)
    176  vwap          f64   that sum / volume, at the price scale, rounded once; NaN where volume is 0
    184  trades        u32   prints that count for volume
    188  late_prints   u32   prints that came too late for this bar's series while it was open, and are in no bar of it
192 bytes. A HEARTBEAT of the source is passed on as a row of that kind (instrument_id 0, bar_no its beat_no).

**Series** TIME: windows aligned to UTC midnight. SESSION: windows counted from the session's opening (`[bars.sessions]`),
the last one cut off at the next opening, 1d being the whole session. TICK, VOLUME, DOLLAR, IMBALANCE: Lopez de Prado,
Advances in Financial Machine Learning (2018), sections 2.3.1 and 2.3.2.1; the trade that reaches the threshold closes the
bar and belongs to it.

**Which bars** A window closes at the first record that shows its end has passed: a trade of the instrument in a later
window, or a HEARTBEAT `settle_s` after it (its place on the venue's clock: the instrument's last trade plus the time on
ours since). Every window is a row: with `EMPTY` where no print counted, the last close carried, up to `empty_rows` in a
row; what follows is left out until the next print's bar, which tells how many in `skipped`.

**Late** A print is late for a series when its window there is closed. It still counts in the coarser frames whose window is
open, before whatever the finer frame has open. A print marked LATE is late everywhere.

**Why it is right** `ts_event` and record order of TRADE records decide all but one thing; no clock is read. The one: a
print that is late only because a HEARTBEAT had closed its window, which a recording without beats does not have.

**Invariants** (1) Each series' windows follow one another without hole or overlap but for `skipped`. (2) low <= open, close
<= high. (3) buy_volume + sell_volume <= volume. (4) A coarser frame's trades and volume are the sums of its finer rows' and
of what was late for these alone.
"""

from enum import IntEnum, IntFlag

import numpy as np

from layouts.abi import check_layout
from layouts.header import HEADER_FIELDS

BAR_BYTES = 192
SECOND_NS = 1_000_000_000
MILLIONTHS = 1_000_000

FRAMES: dict[str, int] = {
    "1s": SECOND_NS,
    "5s": 5 * SECOND_NS,
    "15s": 15 * SECOND_NS,
    "30s": 30 * SECOND_NS,
    "1m": 60 * SECOND_NS,
    "5m": 300 * SECOND_NS,
    "15m": 900 * SECOND_NS,
    "30m": 1800 * SECOND_NS,
    "1h": 3600 * SECOND_NS,
    "4h": 14_400 * SECOND_NS,
    "1d": 86_400 * SECOND_NS,
}
"""The time frames by name, ns; each is a whole number of the one before it."""

_NAMES = {ns: name for name, ns in FRAMES.items()}


class BarKind(IntEnum):
    """What closes a bar of a series."""

    TIME = 1
    SESSION = 2
    TICK = 3
    VOLUME = 4
    DOLLAR = 5
    IMBALANCE = 6


class BarFlag(IntFlag):
    """What a reader should know before using a bar."""

    EMPTY = 0x01
    """No print counted: open, high, low and close are the close before."""
    CARRIED = 0x02
    """No print set a price: likewise, though prints counted for volume unless EMPTY is there too."""
    NO_PRICE = 0x04
    """There never was a price: open, high, low and close are 0."""
    PARTIAL = 0x08
    """The first of its series: what was traded before in its window was not seen."""
    GAP = 0x10
    """Records of this instrument were lost in the bar's time, at the venue, on the way, or by the worker."""
    LATE = 0x20
    """`late_prints` is not 0."""
    SATURATED = 0x40
    """A volume has reached 2**62 and stays there, or a price or quantity was cut to its limit."""
    CLOCK_BACK = 0x80
    """The venue's clock went back for good: the bar was ended before its time, and the next begins before it."""


BAR = check_layout(
    "BAR",
    np.dtype(
        [
            *HEADER_FIELDS,
            ("source_epoch", "<i8"),
            ("source_seq", "<i8"),
            ("source_index", "<u4"),
            ("source_count", "<u4"),
            ("bar_kind", "<u2"),
            ("bar_flags", "<u2"),
            ("skipped", "<u4"),
            ("parameter", "<i8"),
            ("bar_no", "<i8"),
            ("instrument_version", "<i8"),
            ("ts_open", "<i8"),
            ("ts_close", "<i8"),
            ("open", "<i8"),
            ("high", "<i8"),
            ("low", "<i8"),
            ("close", "<i8"),
            ("volume", "<i8"),
            ("buy_volume", "<i8"),
            ("sell_volume", "<i8"),
            ("value_low", "<i8"),
            ("value_high", "<i8"),
            ("vwap", "<f8"),
            ("trades", "<u4"),
            ("late_prints", "<u4"),
        ]
    ),
    BAR_BYTES,
)


def series_name(bar_kind: int, parameter: int) -> str:
    """Return what streams and tables call a series: `1m`, `session_1h`, `tick_100`, `volume_2.5`, `dollar_1000000`."""
    kind = BarKind(bar_kind)
    if kind in (BarKind.TIME, BarKind.SESSION):
        frame = _NAMES.get(parameter, f"{parameter}ns")
        return frame if kind == BarKind.TIME else f"session_{frame}"
    if kind in (BarKind.VOLUME, BarKind.DOLLAR):
        whole, rest = divmod(parameter, MILLIONTHS)
        digits = f"{whole}.{rest:06d}".rstrip("0").rstrip(".")
        return f"{kind.name.lower()}_{digits}"
    return f"{kind.name.lower()}_{parameter}"
