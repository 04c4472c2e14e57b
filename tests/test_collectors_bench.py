"""The bench of the frame path runs, checks what it decoded, and prints one JSON line."""

import pytest
from benches import line_of


@pytest.mark.slow
def test_the_frame_bench_prints_what_it_measured(captures) -> None:
    """Smoke parameters: every figure is there and positive; nothing is said about how large it is."""
    line = line_of("bench_collector_kraken_v1_frame", "--captures", str(captures))
    for row in ("kraken_v1", "kraken_v1_with_books", "kraken_v2"):
        assert 0 < line[row]["p50_us"] <= line[row]["p99_us"] <= line[row]["max_us"]
        assert min(line[row]["mean_us"], line[row]["cpu_us"]) > 0
    assert line["kraken_v1"]["frames"] == 4269
    assert ("ratio_to_cryptofeed" in line) == ("cryptofeed_validating" in line)
    assert {"sha", "cpu", "load", "pinned", "kernel", "python"} <= set(line["conditions"])


@pytest.mark.slow
def test_the_bench_of_all_venues_prints_what_it_measured(captures) -> None:
    """Smoke parameters: a row for each venue and kind of frame, the snapshot, a thousand instruments, the replay."""
    figures = line_of("bench_collector_venues_frame", "--captures", str(captures))["figures"]
    rows = {name: row for name, row in figures.items() if "mean_us" in row}
    assert len(rows) == 14
    for row in rows.values():
        assert row["frames"] > 0
        assert 0 < row["p50_us"] <= row["p99_us"]
    assert figures["snapshot"]["levels"] == 46_000
    assert figures["replay"]["unaccounted"] == 0
    assert min(figures["thousand"].values()) > 0


@pytest.mark.slow
def test_the_socket_bench_prints_what_it_measured(captures) -> None:
    """Smoke parameters: frames came over a real socket, each was decoded; nothing is said about the share of a core."""
    figures = line_of("bench_collector_socket_cpu", "--captures", str(captures))["figures"]
    assert figures["frames_per_s"] > 0
    assert figures["empty_percent"] > 0
    assert figures["ours_percent"] > 0
