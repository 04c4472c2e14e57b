"""The typed options of an instance: every key of the TOML with its type, its bound and its default.

What a key means stands beside it in `tickring.toml`; that its value there is the default here is tested.
"""

import fnmatch
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from collectors.calendar import Hours
from layouts.bar import FRAMES
from layouts.own import OWN_RING
from ops.options_base import Count, Options, Positive, Seconds, WorkerOptions
from ops.options_trading import OrdersOptions, RateText, RiskOptions
from ops.shards import split
from shm.registry import DEFAULT_INSTANCE, default_state_dir

IDS_END = 1 << 16
CONTROL_SLOTS = 1024
"""Of the ring of the supervisor's CONTROL records."""


class SupervisorOptions(Options):
    """How workers are watched and ended."""

    heartbeat_timeout_s: Positive = 2.0
    start_timeout_s: Positive = 180.0
    drain_timeout_s: Positive = 15.0
    feed_retry_s: Positive = 30.0
    log_bytes: Annotated[int, Meta(ge=4096)] = 16 << 20
    log_files: Annotated[int, Meta(ge=1, le=100)] = 3
    audit_on_down: bool = True


class RedisOptions(WorkerOptions):
    """The Redis server: the embedded one, or one that runs already."""

    url: str = ""
    server: str = ""


class VenueOptions(WorkerOptions):
    """The built-in venue server, for collectors without a `url`."""

    source: Literal["auto", "captures", "synthetic"] = "auto"
    captures: list[str] = []
    speed: Annotated[float, Meta(gt=0)] | Literal["max"] = 1.0
    seed: int = 1
    frames_per_s: Positive = 200.0
    depth: Literal[10, 25, 100, 500, 1000] = 10


class Subscription(Options, kw_only=True, forbid_unknown_fields=True):
    """One channel of a venue, for some symbols."""

    channel: Literal["book", "trade", "ticker", "instrument"]
    symbols: list[str] = []
    depth: Count = 0


class Steps(Options):
    """Smallest steps of an instrument, as decimal strings."""

    tick: str = ""
    lot: str = ""


VenueName = Literal[
    "binance_spot",
    "binance_usdm",
    "bitstamp",
    "bybit",
    "coinbase_advanced",
    "coinbase_exchange",
    "deribit",
    "kraken_futures",
    "kraken_v1",
    "kraken_v2",
    "okx",
]
PUBLIC = "public"
"""What stands for a venue's own address."""
PLAYED = ("kraken_v1", "kraken_v2")
"""Protocols that the built-in venue server speaks."""


class CollectorOptions(WorkerOptions, kw_only=True, forbid_unknown_fields=True):
    """One connection to one venue: its frames become one events ring; or as many as it has shards."""

    venue: VenueName
    url: str = ""
    rest_url: str = ""
    key_file: str = ""
    shards: Annotated[int, Meta(ge=1, le=64)] | list[list[str]] = 1
    subscriptions: list[Subscription] = []
    first_instrument_id: Annotated[int, Meta(ge=1, lt=IDS_END)]
    instrument_ids: Annotated[int, Meta(ge=1, lt=IDS_END)] = 1000
    event_slots: int = 65_536
    book_slots: int = 1_024
    instrument_slots: int = 4_096
    records_per_s: Positive = 1500.0
    max_frame_bytes: Annotated[int, Meta(ge=4096)] = 16 << 20
    capture: bool = False
    ticks: dict[str, Steps] = {}
    sessions: dict[str, Hours] = {}

    @property
    def is_played(self) -> bool:
        """Its frames come from the built-in venue server."""
        return not self.url and self.venue in PLAYED


class CaptureOptions(Options):
    """How frames are kept in .wslog files, by the collectors that capture."""

    folder: str = ""
    fsync_s: Seconds = 1.0
    buffer_bytes: Annotated[int, Meta(ge=65_536, le=1 << 28)] = 1 << 20
    free_bytes_min: Count = 256 << 20
    retry_s: Positive = 5.0
    compress: bool = True
    zstd_level: Annotated[int, Meta(ge=1, le=19)] = 3
    keep_days: Seconds = 0.0
    keep_bytes: Count = 0
    copy_to: str = ""


class FeaturesOptions(WorkerOptions):
    """The numba features worker."""

    inputs: tuple[str, ...] = ("*.events",)
    slots: int = 32_768
    rows_per_s: Positive = 500.0
    checkpoint_s: Positive = 1.0


InstrumentOfVenue = Annotated[str, Meta(pattern=r"^[a-z0-9_]+:\S+$")]


class PnlOptions(WorkerOptions):
    """Positions and P&L from fills and marks."""

    enabled: bool = False
    orders: str = "orders.orders"
    inputs: tuple[str, ...] = ("*.events",)
    slots: int = 8_192
    checkpoint_s: Positive = 1.0
    method: Literal["average", "fifo"] = "average"
    lots: Annotated[int, Meta(ge=1, le=65_536)] = 256
    mark: Literal["mid", "last"] = "mid"
    row_pause_s: Seconds = 0.1
    day_start: Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = "00:00"
    watch: tuple[InstrumentOfVenue, ...] = ()

    @property
    def day_start_s(self) -> int:
        """When a day begins, after midnight UTC."""
        hours, _, minutes = self.day_start.partition(":")
        return int(hours) * 3600 + int(minutes) * 60


class ExposureOptions(WorkerOptions):
    """Exposures and value at risk from positions."""

    enabled: bool = False
    inputs: tuple[str, ...] = ("pnl.positions",)
    slots: int = 4_096
    checkpoint_s: Positive = 1.0
    slot_s: Annotated[float, Meta(ge=0.001)] = 1.0
    interval_s: Annotated[float, Meta(ge=0.001)] = 60.0
    window: Annotated[int, Meta(ge=2, le=100_000)] = 500
    least_samples: Annotated[int, Meta(ge=2)] = 30
    confidence: Annotated[float, Meta(ge=0.5, lt=1.0)] = 0.99
    base_currency: str = ""
    rates: dict[str, RateText] = {}


class SessionOptions(Options, kw_only=True, forbid_unknown_fields=True):
    """When an exchange's session opens, and of which instruments."""

    open: str
    time_zone: str
    instruments: tuple[str, ...] = ("*",)


class BarsOptions(WorkerOptions):
    """The bars worker (consumers.bars); what its series are is checked by consumers.bar_series."""

    inputs: tuple[str, ...] = ("*.events",)
    frames: tuple[str, ...] = tuple(FRAMES)
    session_frames: tuple[str, ...] = ()
    tick_bars: tuple[int, ...] = ()
    volume_bars: tuple[float, ...] = ()
    dollar_bars: tuple[float, ...] = ()
    imbalance_bars: tuple[int, ...] = ()
    settle_s: float = 2.0
    empty_rows: int = 60
    sessions: dict[str, SessionOptions] = {}
    slots: int = 16_384
    rows_per_s: Positive = 200.0
    checkpoint_s: Positive = 1.0


class OwnOptions(WorkerOptions, kw_only=True):
    """A consumer of one's own (consumers.own)."""

    consumer: str
    folder: str = ""
    inputs: tuple[str, ...] = ("*.events",)
    slots: int = 16_384
    rows_per_s: Positive = 500.0
    checkpoint_s: Positive = 1.0


class FanoutOptions(WorkerOptions):
    """Rings to Redis Streams."""

    inputs: tuple[str, ...] = ("*.events", "features.features", "bars.bars")
    maxlen: Annotated[int, Meta(ge=1)] = 100_000
    outage_s: Seconds = 30.0


class RecorderOptions(WorkerOptions):
    """Rings to Parquet."""

    inputs: tuple[str, ...] = (
        "*.events",
        "*.instruments",
        "features.features",
        "bars.bars",
        "pnl.positions",
        "exposure.exposures",
        "orders.orders",
        "control.control",
        "risk.decisions",
        "*.rows",
    )
    data_dir: str = ""
    segment_rows: Annotated[int, Meta(ge=1)] = 65_536
    outage_s: Seconds = 30.0


ReaderOptions = (
    FeaturesOptions
    | BarsOptions
    | PnlOptions
    | RiskOptions
    | ExposureOptions
    | OwnOptions
    | FanoutOptions
    | RecorderOptions
)
"""Workers that read rings."""


class Topology(Options):
    """One instance."""

    instance: str = DEFAULT_INSTANCE
    state_dir: str = ""
    reader_group: str = ""
    consumer_group: str = ""
    supervisor: SupervisorOptions = msgspec.field(default_factory=SupervisorOptions)
    redis: RedisOptions = msgspec.field(default_factory=RedisOptions)
    venue: VenueOptions = msgspec.field(default_factory=VenueOptions)
    capture: CaptureOptions = msgspec.field(default_factory=CaptureOptions)
    collectors: dict[str, CollectorOptions] = {}
    features: FeaturesOptions = msgspec.field(default_factory=FeaturesOptions)
    orders: OrdersOptions = msgspec.field(default_factory=OrdersOptions)
    risk: RiskOptions = msgspec.field(default_factory=RiskOptions)
    pnl: PnlOptions = msgspec.field(default_factory=PnlOptions)
    exposure: ExposureOptions = msgspec.field(default_factory=ExposureOptions)
    bars: BarsOptions = msgspec.field(default_factory=BarsOptions)
    consumers: dict[str, OwnOptions] = {}
    fanout: FanoutOptions = msgspec.field(default_factory=FanoutOptions)
    recorder: RecorderOptions = msgspec.field(default_factory=RecorderOptions)

    @property
    def state_path(self) -> Path:
        """Where the instance keeps what survives `down`."""
        return Path(self.state_dir or default_state_dir(self.instance)).expanduser().absolute()

    @property
    def data_path(self) -> Path:
        """Where the recorder's files are."""
        return (
            Path(self.recorder.data_dir).expanduser().absolute()
            if self.recorder.data_dir
            else (self.state_path / "data")
        )

    @property
    def capture_path(self) -> Path:
        """Where captured frames are, a folder per collector."""
        if self.capture.folder:
            return Path(self.capture.folder).expanduser().absolute()
        return self.state_path / "wslog"

    @property
    def enabled_collectors(self) -> dict[str, CollectorOptions]:
        """The tables of collectors that are enabled."""
        return {name: c for name, c in self.collectors.items() if c.enabled}

    @property
    def running_collectors(self) -> dict[str, CollectorOptions]:
        """The collectors that run: an enabled table's own, or its shards."""
        return {
            worker: own
            for name, c in self.enabled_collectors.items()
            for worker, own in split(name, c).items()
        }

    @property
    def needs_venue(self) -> bool:
        """Tell whether a collector takes its frames from the built-in venue server."""
        return self.venue.enabled and any(c.is_played for c in self.enabled_collectors.values())

    @property
    def embeds_redis(self) -> bool:
        """Tell whether the Redis server is a child of ours."""
        given = self.redis.url or redis_url_from_environment()
        return self.redis.enabled and self.fanout.enabled and not given

    def workers(self) -> dict[str, WorkerOptions]:
        """Return the workers that run, by name, in the order of the data."""
        found: dict[str, WorkerOptions] = {}
        if self.embeds_redis:
            found["redis"] = self.redis
        if self.needs_venue:
            found["venue"] = self.venue
        found |= self.running_collectors
        found |= {name: own for name, own in self.consumers.items() if own.enabled}
        names = ("orders", "risk", "features", "bars", "pnl", "exposure", "fanout", "recorder")
        for name in names:
            options: WorkerOptions = getattr(self, name)
            if options.enabled:
                found[name] = options
        return found

    def rings(self, of_disabled: bool = False) -> list[str]:
        """Return the public names of the record rings that consumers may read; those of disabled workers if asked for."""
        running = self.running_collectors
        disabled = [name for name, c in self.collectors.items() if not c.enabled]
        names = [
            f"{name}.{ring}"
            for name in ([*disabled, *running] if of_disabled else running)
            for ring in ("events", "books", "instruments")
        ]
        made: dict[str, WorkerOptions] = {
            "orders.orders": self.orders,
            "control.control": self.risk,
            "risk.decisions": self.risk,
            "features.features": self.features,
            "bars.bars": self.bars,
            "pnl.positions": self.pnl,
            "exposure.exposures": self.exposure,
            **{f"{name}.{OWN_RING}": own for name, own in self.consumers.items()},
        }
        return [*names, *(ring for ring, by in made.items() if by.enabled or of_disabled)]

    def expand(self, patterns: Sequence[str]) -> list[str]:
        """Return the rings that match, in order and once each; a pattern is a name or holds `*`."""
        rings = self.rings()
        matching = [ring for p in patterns for ring in rings if fnmatch.fnmatchcase(ring, p)]
        return list(dict.fromkeys(matching))

    def inputs_of(self, options: ReaderOptions) -> list[str]:
        """Return the rings that a worker reads, in the order of its spec."""
        before: list[str] = []
        if isinstance(options, PnlOptions):
            before = [options.orders]
        elif isinstance(options, RiskOptions):
            before = ["orders.orders", "control.control"]
        return [*before, *self.expand(options.inputs)]


def redis_url_from_environment() -> str:
    """Return the Redis URL that the environment names, with its password; it is written nowhere but in 0600 files."""
    return os.environ.get("TICKRING_REDIS_URL", "")
