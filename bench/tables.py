"""The tables of bench/README.md are made from JSON lines and from nothing else.

    python bench/tables.py                  write both tables into bench/README.md
    python bench/tables.py --check          exit 1 when bench/README.md says something else
    python bench/tables.py LINES...         print the ring table of other lines

ring.jsonl holds a line of each ring bench, the newest counts; reasons.json why a figure may miss what is asked; rows.jsonl a
line for each row of the reliability table: row, claim, asked, reached, is_reached, command, and a reason where it is not
reached. What is not reached is listed below its table with its reason; a figure that is missing is a dash, and not reached.
"""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from measured import replaced

HERE = Path(__file__).resolve().parent
README = HERE / "README.md"
RING_MARKS = ("<!-- rings: made by bench/tables.py -->", "<!-- /rings -->")
ROWS_MARKS = ("<!-- rows: made by bench/tables.py -->", "<!-- /rows -->")
ROW_KEYS = ("row", "claim", "asked", "reached", "is_reached", "command")


class Figure(NamedTuple):
    """One row of the ring table; `bound` is held against the figure named in `judged` ("" : nothing is asked)."""

    what: str
    name: str
    unit: str
    judged: str = ""
    compare: str = ""
    bound: float = 0.0
    asked: str = ""


_LATENCY, _RATE = "bench_ring_1p1c_latency", "bench_ring_1p1c_throughput"
_MIXED = "bench_ring_1p1c_mixed"
_PYTHON, _WAIT = "bench_ring_python", "bench_ring_wait"
FIGURES = {
    _LATENCY: (
        Figure("hop, 64 B: half the round trip", "hop_64_half_rtt_ns", "ns", "ratio_64_to_line", "<=", 1.25, "x line"),
        Figure("hop, 1,664 B", "hop_1664_half_rtt_ns", "ns", "ratio_1664_to_line", "<=", 3.75, "x line"),
        Figure("the line: a word each way, C", "line_half_rtt_ns", "ns"),
        Figure("one word that both write, C", "word_half_rtt_ns", "ns"),
        Figure("26 lines by memcpy, C", "message_half_rtt_ns", "ns"),
    ),
    _RATE: (
        Figure("throughput, 64 B, one consumer", "rate_64", "/s", "ratio_64_to_reference", ">=", 1.5, "x C queue"),
        Figure("throughput, 1,664 B", "rate_1664", "/s"),
        Figure("plain C queue, 64 B", "reference_rate_64", "/s"),
        Figure("producer with a passive reader", "producer_rate_64_observed", "/s",
               "passive_reader_rate_ratio", ">=", 0.95, "x without"),
        Figure("1 producer, 3 consumers, processes: records wrong", "three_consumers_wrong", "",
               "three_consumers_wrong", "<=", 0, ""),
    ),
    _MIXED: (
        Figure("C to C, 64 B: hop", "hop_half_rtt_ns_c_to_c", "ns"),
        Figure("jitted to jitted, 64 B: hop", "hop_half_rtt_ns_jit_to_jit", "ns"),
        Figure("C to jitted, 64 B: hop", "hop_half_rtt_ns_c_to_jit", "ns",
               "hop_ratio_c_to_jit", "<=", 1.2, "x time of pure pairs"),
        Figure("jitted to C, 64 B: hop", "hop_half_rtt_ns_jit_to_c", "ns",
               "hop_ratio_jit_to_c", "<=", 1.2, "x time of pure pairs"),
        Figure("C to C, 64 B: throughput", "rate_c_to_c", "/s"),
        Figure("jitted to jitted, 64 B: throughput", "rate_jit_to_jit", "/s"),
        Figure("C to jitted, 64 B: throughput", "rate_c_to_jit", "/s",
               "time_ratio_c_to_jit", "<=", 1.2, "x time of pure pairs"),
        Figure("jitted to C, 64 B: throughput", "rate_jit_to_c", "/s",
               "time_ratio_jit_to_c", "<=", 1.2, "x time of pure pairs"),
    ),
    _PYTHON: (
        Figure("Python publish + poll, 64 B", "python_publish_poll_rate", "/s",
               "rate_ratio_to_iceoryx2", ">=", 3, "x iceoryx2"),
        Figure("Python hop", "python_hop_half_rtt_ns", "ns", "hop_ratio_to_iceoryx2", "<=", 0.5, "x iceoryx2"),
        Figure("last(1,000,000), 64 B", "last_million_bytes_per_s", "B/s",
               "last_million_bytes_per_s", ">=", 3e9, "B/s"),
        Figure("iceoryx2, Python", "iceoryx2_python_rate", "/s"),
        Figure("iceoryx2, Python, hop", "iceoryx2_python_half_rtt_ns", "ns"),
        Figure("faster-fifo", "faster_fifo_rate", "/s"),
        Figure("multiprocessing Pipe", "multiprocessing_pipe_rate", "/s"),
        Figure("multiprocessing Queue", "multiprocessing_queue_rate", "/s"),
        Figure("multiprocessing SimpleQueue", "multiprocessing_simple_queue_rate", "/s"),
        Figure("pyzmq over ipc", "pyzmq_ipc_rate", "/s"),
        Figure("Redis publish", "redis_pubsub_rate", "/s"),
    ),
    _WAIT: (
        Figure("idle pipeline, all processes", "idle_core_percent", "% of a core",
               "idle_core_percent", "<=", 2, "%"),
        Figure("the same with the default market", "default_core_percent", "% of a core"),
        Figure("wake-up of a sleeping consumer, p99", "wake_us_p99", "us", "wake_us_p99", "<=", 200, "us"),
        Figure("the last of three woken on two cores, p99", "wake_last_of_3_us_p99", "us"),
    ),
}  # fmt: skip


def read_lines(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Return the newest line of each bench of several files."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        for text in path.read_text().splitlines():
            line = json.loads(text)
            found[f"bench_{line['bench']}"] = line
    return found


def ring_table(lines: dict[str, dict[str, Any]]) -> str:
    """Return the Markdown table, what is not reached, and the conditions of each bench."""
    out = [
        "| what | median | range of the runs | judged | asked | reached | bench |",
        "|---|---|---|---|---|---|---|",
    ]
    missed, told = [], []
    for bench, figures in FIGURES.items():
        line = lines.get(bench, {})
        for figure in figures:
            out.append(_ring_row(figure, line, bench.removeprefix("bench_ring_")))
            if figure.compare and not _is_reached(figure, line):
                missed.append(_missed(figure, line))
        if line:
            told.append(f"- `python bench/{bench}.py`: {_conditions(line)}")
    out += ["", "Not reached:" if missed else "All that is asked is reached.", *missed]
    return "\n".join([*out, "", "Conditions:", "", *told])


def rows_table(rows: list[dict[str, Any]]) -> str:
    """Return the reliability table and the reasons of what is not reached.

    Raises:
        ValueError: a line lacks a key, or a row is there twice, or not reached without a reason.
    """
    out = ["| row | claim | asked | reached | | command |", "|---|---|---|---|---|---|"]
    reasons = []
    names = [row.get("row") for row in rows]
    for row in rows:
        if any(key not in row for key in ROW_KEYS) or names.count(row["row"]) > 1:
            raise ValueError(f"rows.jsonl: {row}: once each with {', '.join(ROW_KEYS)} expected")
        if not row["is_reached"] and not row.get("reason"):
            raise ValueError(f"rows.jsonl: {row['row']} is not reached: say why in `reason`")
        verdict = "yes" if row["is_reached"] else "no"
        cells = (
            row["row"],
            row["claim"],
            row["asked"],
            row["reached"],
            verdict,
            f"`{row['command']}`",
        )
        out.append("| " + " | ".join(cells) + " |")
        if row.get("reason"):
            reasons.append(f"- **{row['row']}**: {row['reason']}")
    return "\n".join([*out, "", *reasons])


def _ring_row(figure: Figure, line: dict[str, Any], bench: str) -> str:
    low_high = line.get(f"{figure.name}_range")
    span = " .. ".join(_number(value) for value in low_high) if low_high else ""
    value = f"{_number(line.get(figure.name))} {figure.unit}".strip()
    judged = (
        _number(line.get(figure.judged)) if figure.judged != figure.name and figure.compare else ""
    )
    asked = (
        f"{figure.compare} {_number(figure.bound)} {figure.asked}".strip() if figure.compare else ""
    )
    verdict = ("yes" if _is_reached(figure, line) else "no") if figure.compare else ""
    return f"| {figure.what} | {value} | {span} | {judged} | {asked} | {verdict} | {bench} |"


def _is_reached(figure: Figure, line: dict[str, Any]) -> bool:
    value = line.get(figure.judged)
    if not isinstance(value, int | float):
        return False
    return value <= figure.bound if figure.compare == "<=" else value >= figure.bound


def _missed(figure: Figure, line: dict[str, Any]) -> str:
    why = json.loads((HERE / "reasons.json").read_text()).get(figure.name, "no reason is known yet")
    return f"- **{figure.what}**: {_number(line.get(figure.judged))}, asked {figure.compare} {_number(figure.bound)}: {why}"


def _conditions(line: dict[str, Any]) -> str:
    where = line.get("conditions", {})
    told = ", ".join(f"{key} {value}" for key, value in where.items() if key != "versions")
    return f"{line.get('runs')} runs, {told}"


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def written(readme: str) -> str:
    """Return the document with both tables as the lines make them."""
    rows = [json.loads(text) for text in (HERE / "rows.jsonl").read_text().splitlines()]
    rings = ring_table(read_lines([HERE / "ring.jsonl"]))
    for (begin, end), table in ((RING_MARKS, rings), (ROWS_MARKS, rows_table(rows))):
        readme = replaced(readme, f"{begin}\n{table}\n{end}", begin, end)
    return readme


def main() -> int:
    """Write the tables, check them, or print that of the lines given."""
    words = sys.argv[1:]
    if words and words != ["--check"]:
        print(ring_table(read_lines([Path(word) for word in words])))
        return 0
    text = README.read_text()
    made = written(text)
    if not words:
        README.write_text(made)
    return int(bool(words) and made != text)


if __name__ == "__main__":
    sys.exit(main())
