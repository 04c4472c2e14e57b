"""README's table of figures is made from the benches' JSON lines and from nothing else.

    python bench/measured.py                 write the table into README.md from bench/measured.jsonl
    python bench/measured.py --check         exit 1 when README.md says something else

`make measured` runs every bench and one `tickring run`, keeps their lines and writes the table. The newest line of a
bench counts. A figure that a line lacks is an error, not an empty cell.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
LINES = ROOT / "bench" / "measured.jsonl"
README = ROOT / "README.md"
BEGIN, END = "<!-- measured: made by bench/measured.py -->", "<!-- /measured -->"


class Figure(NamedTuple):
    """One row: what is measured, where its numbers stand in the line, how they are written, what is to be reached."""

    what: str
    bench: str
    keys: tuple[str, ...]
    text: str
    goal: str


def _hop(name: str, what: str) -> Figure:
    keys = tuple(f"latency.{name}.{q}" for q in ("p50_ns", "p90_ns", "p99_ns"))
    return Figure(what, "tickring_run", keys, "{0:us} / {1:us} / {2:us} us p50 / p90 / p99", "")


def _frame(what: str, row: str, goal: str) -> Figure:
    keys = tuple(f"figures.{row}.{q}" for q in ("mean_us", "p50_us", "p99_us"))
    return Figure(what, _VENUES, keys, "{0:.2f} us mean ({1:.2f} p50, {2:.2f} p99)", goal)


_VENUES = "bench_collector_venues_frame"
_FRAME = "bench_collector_kraken_v1_frame"
FIGURES = (
    Figure(
        "Kraken v1 frame, bytes to ring: decode, book, CRC-32, publish",
        _FRAME,
        ("kraken_v1.mean_us", "kraken_v1.p50_us", "kraken_v1.p99_us"),
        "{0:.2f} us mean ({1:.2f} p50, {2:.2f} p99)",
        "<= 3 us",
    ),
    Figure(
        "the same frames through cryptofeed with checksums on, same run",
        _FRAME,
        ("ratio_to_cryptofeed",),
        "{0:.1f} x the time",
        ">= 7",
    ),
    Figure(
        "Kraken v2 frame, bytes to ring",
        _FRAME,
        ("kraken_v2.mean_us", "kraken_v2.p50_us", "kraken_v2.p99_us"),
        "{0:.2f} us mean ({1:.2f} p50, {2:.2f} p99)",
        "",
    ),
    _frame("a trade of Binance spot, bytes to ring", "binance_spot_trade", "<= 1 us"),
    _frame("a trade of Kraken v2", "kraken_v2_trade", "<= 1 us"),
    _frame("a level2 update of Coinbase Exchange", "coinbase_exchange_book", "<= 1.5 us"),
    _frame("one of Coinbase Advanced Trade, 5.9 levels", "coinbase_advanced_book", "<= 1.5 us"),
    _frame("a diff of Binance spot, 36 levels", "binance_spot_depth", "<= 6.6 us"),
    _frame("a diff of Binance USD-M, 22.8 levels", "binance_usdm_depth", "<= 5.3 us"),
    Figure(
        "a snapshot of 46,000 levels", _VENUES, ("figures.snapshot.ms",), "{0:.1f} ms", "<= 20 ms"
    ),
    Figure(
        "a frame with 1,000 instruments against 10",
        _VENUES,
        ("figures.thousand.ratio",),
        "{0:.2f} x",
        "<= 1.3 x",
    ),
    Figure(
        "frames a second decoded, published and read off",
        _VENUES,
        ("figures.replay.frames_per_s",),
        "{0:,.0f}",
        ">= 200,000",
    ),
    Figure(
        "10,000 frames/s over a socket, above an empty picows handler",
        "bench_collector_socket_cpu",
        ("figures.above_empty_percent", "figures.empty_percent"),
        "{0:.1f} % of a core (the handler {1:.1f})",
        "<= 3 %",
    ),
    Figure(
        "a row of features, all columns, book updates included",
        "bench_features_kernel",
        ("figures.all_ns", "figures.ratio_1000"),
        "{0:.0f} ns ({1:.2f} x with 1,000 instruments)",
        "<= 400 ns (1.5 x)",
    ),
    Figure(
        "a trade into the bars of all eleven frames, closed rows written, 1 ms / 100 ms / 1 s apart",
        "bench_bars_kernel",
        ("figures.trade_ns.1ms", "figures.trade_ns.100ms", "figures.trade_ns.1s"),
        "{0:.0f} / {1:.0f} / {2:.0f} ns",
        "<= 150 ns",
    ),
    Figure(
        "a trade into a running VWAP; its quotient, rounded once",
        "bench_bars_kernel",
        ("figures.vwap_update_ns", "figures.vwap_close_ns"),
        "{0:.1f} ns; {1:.0f} ns",
        "<= 10 ns; -",
    ),
    Figure(
        "events ring to features visible, 10,000 frames a second, two cores that spin",
        "bench_features_latency",
        ("figures.hop_p50_ns", "figures.hop_p99_ns"),
        "{0:us1} us p50, {1:us1} us p99",
        "<= 3, <= 20 us",
    ),
    Figure(
        "an order against all limits, 25 in force; the same with its row written",
        "bench_risk_kernel",
        ("figures.checks_ns", "figures.order_ns"),
        "{0:.0f} ns; {1:.0f} ns",
        "<= 60 ns",
    ),
    Figure(
        "a fill booked by average cost, its row included; a move of the mark",
        "bench_pnl_kernel",
        ("figures.fill_average_ns", "figures.mark_ns"),
        "{0:.0f} ns; {1:.0f} ns",
        "",
    ),
    Figure(
        "an indicator over 10,000 rows against TA-Lib's C, median of all",
        "bench_indicators_batch",
        ("figures.10000.median_ratio",),
        "{0:.2f} x TA-Lib's time",
        "",
    ),
    Figure(
        "trades a second into Redis Streams, against redis-py's own pipeline",
        "bench_sinks_1p1c_throughput",
        ("records_per_s.fanout_trades", "fanout_to_redis_py"),
        "{0:,.0f} ({1:.2f} x redis-py)",
        "",
    ),
    Figure(
        "caught up after 30 s without Redis at 20,000 trades/s",
        "bench_sinks_1p1c_throughput",
        ("outage_catch_up_s",),
        "{0:.1f} s",
        "<= 15 s",
    ),
    Figure(
        "records a second into journal and Parquet",
        "bench_sinks_1p1c_throughput",
        ("records_per_s.recorder_events",),
        "{0:,.0f}",
        "",
    ),
    Figure("start to first record", "tickring_run", ("to_first_record_s",), "{0:.1f} s", "<= 3 s"),
    _hop("socket -> ring", "socket callback to ring"),
    _hop("ring -> features", "events ring to features ring"),
    _hop("end to end", "end to end"),
    Figure("unaccounted at the end", "tickring_run", ("unaccounted",), "{0}", "0"),
)


class Value(float):
    """A number that `us` writes as microseconds of nanoseconds."""

    def __format__(self, spec: str) -> str:
        """Write nanoseconds as microseconds for `us` and `us1` (a decimal), all else as floats; whole numbers plainly."""
        if spec.startswith("us"):
            return f"{self / 1000:,.{spec[2:] or 0}f}"
        return format(float(self), spec) if spec else f"{self:g}"


def read_lines(text: str) -> dict[str, dict[str, Any]]:
    """Return the newest line of each bench; the object of `tickring run --json` goes by the name tickring_run."""
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        made = json.loads(line)
        if "latency" in made and "bench" not in made:
            made["latency"] = {hop["hop"]: hop for hop in made["latency"]}
            made["bench"] = "tickring_run"
        name = made["bench"]
        found[name if name.startswith(("bench_", "tickring_")) else f"bench_{name}"] = made
    return found


def value_of(line: dict[str, Any], key: str) -> Value:
    """Return the number at a dotted key.

    Raises:
        KeyError: the line has no such figure.
    """
    at: Any = line
    for part in key.split("."):
        at = at[part]
    return Value(at)


def conditions_of(lines: dict[str, dict[str, Any]]) -> str:
    """Say where the figures come from, once for all lines."""
    line = next(line for name, line in lines.items() if name.startswith("bench_"))
    line = line | line.get("conditions", {})
    cores = line.get("cores", line.get("cpus"))
    cpu = line.get("cpu_model", line.get("cpu"))
    loads = [
        made.get("load_1min", made.get("conditions", {}).get("load", 0)) for made in lines.values()
    ]
    return (
        f"{cpu}, {cores} cores, nothing pinned, load up to {max(loads):.1f}, Linux {line['kernel']}, "
        f"Python {line['python']}, {line['sha']}"
    )


def render(lines: dict[str, dict[str, Any]]) -> str:
    """Return the table with its two marks."""
    rows = [BEGIN, f"Measured on {conditions_of(lines)}:", "", "| what | measured | to reach |"]
    rows.append("|---|---|---|")
    for figure in FIGURES:
        line = lines[figure.bench]
        shown = figure.text.format(*(value_of(line, key) for key in figure.keys))
        rows.append(f"| {figure.what} | {shown} | {figure.goal or '-'} |")
    return "\n".join([*rows, END])


def replaced(readme: str, table: str, begin_mark: str = BEGIN, end_mark: str = END) -> str:
    """Return the document with the table, which has its marks, in the place of what is between them.

    Raises:
        ValueError: the document lacks a mark.
    """
    before, begin, rest = readme.partition(begin_mark)
    _, end, after = rest.partition(end_mark)
    if not begin or not end:
        raise ValueError(
            f"{README.name} has no place for the table: put {begin_mark} and {end_mark} in it"
        )
    return before + table + after


def main() -> int:
    """Write the table, or check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    text = README.read_text()
    wanted = replaced(text, render(read_lines(LINES.read_text())))
    if not check:
        README.write_text(wanted)
    return int(check and wanted != text)


if __name__ == "__main__":
    sys.exit(main())
