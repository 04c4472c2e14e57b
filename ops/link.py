"""A collector's link in figures, from its counters: what frames take, what waits, what came twice or late, the clocks."""

from collections.abc import Mapping

import msgspec

_BELOW = "decode_ns.below_"


class LinkFacts(msgspec.Struct, kw_only=True):
    """One link. Times of frames are from the read callback to publication; None: nothing told it yet."""

    decode_us_mean: float | None = None
    decode_us_p99: float | None = None
    """An upper bound: the counts are by powers of two."""
    decode_us_max: float = 0.0
    """Of the last half minute or more."""
    socket_queued_bytes: int = 0
    socket_queued_bytes_max: int = 0
    clock_offset_ms: float | None = None
    """Our clock minus the venue's plus the fastest way between, at the least of the last half minute or more."""
    duplicates: int = 0
    late: int = 0
    trades_duplicate: int = 0
    in_snapshot: int = 0
    """Frames that a REST snapshot contained already."""
    reconnects: int = 0
    channels_silent: int = 0
    channels_closed: int = 0
    """Channels of instruments that are outside their sessions: their silence is none."""
    rest_given_up: int = 0


def link_facts(values: Mapping[str, int]) -> LinkFacts:
    """Return the figures that a collector's counters hold."""
    frames = values.get("decode_frames", 0)
    is_known = values.get("clock_offset_known", 0)
    return LinkFacts(
        decode_us_mean=round(values["decode_ns_sum"] / frames / 1e3, 3) if frames else None,
        decode_us_p99=_quantile_us(values, 0.99),
        decode_us_max=values.get("decode_ns_max", 0) / 1e3,
        socket_queued_bytes=values.get("socket_queued_bytes", 0),
        socket_queued_bytes_max=values.get("socket_queued_bytes_max", 0),
        clock_offset_ms=round(values["clock_offset_ns"] / 1e6, 3) if is_known else None,
        duplicates=values.get("rejected.duplicate", 0),
        late=values.get("rejected.late", 0),
        trades_duplicate=values.get("trades_duplicate", 0),
        in_snapshot=values.get("frames_stale", 0),
        reconnects=values.get("reconnects", 0),
        channels_silent=values.get("channels_silent", 0),
        channels_closed=values.get("channels_closed", 0),
        rest_given_up=values.get("rest.given_up", 0),
    )


def _quantile_us(values: Mapping[str, int], quantile: float) -> float | None:
    """Return the least bound that so many frames were below, None where the counts have none."""
    below = sorted(
        (int(name.removeprefix(_BELOW)), n) for name, n in values.items() if name.startswith(_BELOW)
    )
    total = sum(n for _, n in below) + values.get("decode_ns.longer", 0)
    reached = 0
    for bound_ns, n in below:
        reached += n
        if total and reached >= quantile * total:
            return bound_ns / 1e3
    return None
