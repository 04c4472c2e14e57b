"""The ring tables of bench/README.md are made from the benches' JSON lines: `python bench/tables.py LINES... > table.md`.

Without arguments the lines that are checked in (bench/ring.jsonl) are taken. A figure that is missing is a dash.
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

ROWS = (
    ("hop, 64 B: half the round trip", "hop_64_half_rtt_ns", "ns", "ratio_64_to_line", "<= 1.25 x line"),
    ("hop, 1,664 B", "hop_1664_half_rtt_ns", "ns", "ratio_1664_to_line", "<= 3.75 x line"),
    ("the line: a word each way, C", "line_half_rtt_ns", "ns", "", ""),
    ("one word that both write, C", "word_half_rtt_ns", "ns", "", ""),
    ("26 lines by memcpy, C", "message_half_rtt_ns", "ns", "", ""),
    ("throughput, 64 B, one consumer", "rate_64", "/s", "ratio_64_to_reference", ">= 1.5 x C queue"),
    ("throughput, 1,664 B", "rate_1664", "/s", "", ""),
    ("plain C queue, 64 B", "reference_rate_64", "/s", "", ""),
    ("producer with a passive reader", "producer_rate_64_observed", "/s", "passive_reader_rate_ratio", ">= 0.95"),
    ("Python publish + poll, 64 B", "python_publish_poll_rate", "/s", "rate_ratio_to_iceoryx2", ">= 3 x iceoryx2"),
    ("Python hop", "python_hop_half_rtt_ns", "ns", "hop_ratio_to_iceoryx2", "<= 0.5 x iceoryx2"),
    ("last(1,000,000), 64 B", "last_million_bytes_per_s", "B/s", "", ">= 3 GB/s"),
    ("iceoryx2, Python", "iceoryx2_python_rate", "/s", "", ""),
    ("iceoryx2, Python, hop", "iceoryx2_python_half_rtt_ns", "ns", "", ""),
    ("faster-fifo", "faster_fifo_rate", "/s", "", ""),
    ("multiprocessing Pipe", "multiprocessing_pipe_rate", "/s", "", ""),
    ("multiprocessing SimpleQueue", "multiprocessing_simple_queue_rate", "/s", "", ""),
    ("pyzmq over ipc", "pyzmq_ipc_rate", "/s", "", ""),
    ("Redis publish", "redis_pubsub_rate", "/s", "", ""),
)  # fmt: skip


def merged(paths: list[Path]) -> dict[str, Any]:
    """Return the figures of several lines as one."""
    facts: dict[str, Any] = {}
    for path in paths:
        for text in path.read_text().splitlines():
            facts |= json.loads(text)
    return facts


def table(facts: dict[str, Any]) -> str:
    """Return the Markdown table, and a line with the conditions."""
    lines = ["| what | median | range of the runs | ratio | asked |", "|---|---|---|---|---|"]
    for what, name, unit, ratio, asked in ROWS:
        low_high = facts.get(f"{name}_range") or ["-", "-"]
        span = " .. ".join(_number(value) for value in low_high)
        value = f"{_number(facts.get(name))} {unit}"
        lines.append(f"| {what} | {value} | {span} | {facts.get(ratio, '')} | {asked} |")
    where = facts.get("conditions", {})
    told = ", ".join(f"{key} {value}" for key, value in where.items() if key != "versions")
    return "\n".join([*lines, "", f"Conditions: {told}; {facts.get('runs')} runs."])


def _number(value: Any) -> str:
    if not isinstance(value, int | float):
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def main() -> None:
    """Print the table of the lines given."""
    paths = [Path(name) for name in sys.argv[1:]] or [HERE / "ring.jsonl"]
    sys.stdout.write(table(merged(paths)) + "\n")


if __name__ == "__main__":
    main()
