"""The benches of capture and replay run, check what they did, and print one JSON line each."""

import pytest
from benches import line_of


@pytest.mark.slow
def test_each_bench_prints_what_it_measured() -> None:
    """Smoke parameters: every figure is there and positive; nothing is said about how large it is."""
    capture = line_of("bench_wslog_capture")["figures"]
    assert capture["decode_us"] > 0 and capture["decode_captured_us"] > 0
    assert {"added_to_nothing_us", "added_to_decode_us"} <= set(capture)
    read = line_of("bench_wslog_read")
    assert min(row["lowest"] for row in read["figures"].values()) > 0
    assert read["entries"] >= 5_000 and 0 < read["zstd_ratio"] < 1
    for late in line_of("bench_wslog_replay_timing")["figures"].values():
        for each in (late, late["host"]):
            assert each["frames"] >= 100 and each["us_p50"] <= each["us_p99"] <= each["us_max"]
        assert 0 < late["cpu_percent"] < 200
