"""What a collector is told: whose frames to take, what to ask for, how large its rings are; checked before it starts."""

from typing import Annotated

import msgspec

from collectors.addresses import check_url, is_loopback
from collectors.calendar import Hours, hours_mistakes
from collectors.decoder import MAX_FRAME_BYTES, Subscription
from collectors.instruments import Instrument, Steps
from collectors.venues import DECODERS
from collectors.wslog import About
from collectors.wslog_writer import CaptureSpec
from shm.errors import ConfigurationError
from shm.worker import WorkerSpec


class CollectorSpec(WorkerSpec):
    """One collector: a venue's address, what to ask it for, and how large its rings are."""

    venue: str
    """A key of `collectors.venues.DECODERS`."""
    subscriptions: tuple[Subscription, ...]
    first_instrument_id: int
    url: str = ""
    """Where its WebSocket is; "": the venue's public address."""
    rest_url: str = ""
    """Where its REST side is; "": the venue's own, or none for a venue on this host."""
    rest_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    """Its part of what the venue allows this host, where several collectors ask one venue."""
    key_file: str = ""
    """Key to sign requests with; "": none."""
    instrument_ids: int = 256
    event_slots: int = 65_536
    book_slots: int = 1_024
    instrument_slots: int = 1_024
    max_frame_bytes: int = MAX_FRAME_BYTES
    steps: dict[str, Steps] = msgspec.field(default_factory=dict)
    """Tick and lot per symbol as decimal text, where the venue does not tell them."""
    sessions: tuple[Hours, ...] = ()
    """When which instruments are traded; the first that matches holds, and what none matches always is."""
    capture: CaptureSpec | None = None
    """How frames are kept in .wslog files; None: not at all."""

    def __post_init__(self) -> None:
        if self.venue not in DECODERS:
            raise ConfigurationError(
                f"collector {self.worker}: venue {self.venue!r}; known are {', '.join(sorted(DECODERS))}"
            )
        if self.key_file and self.venue != "coinbase_advanced":
            raise ConfigurationError(
                f"collector {self.worker}: key_file: {self.venue} is asked for nothing that is signed"
            )
        if found := [each for given in self.sessions for each in hours_mistakes(given)]:
            raise ConfigurationError(f"collector {self.worker}: sessions: {'; '.join(found)}")
        decoder = DECODERS[self.venue]
        self.url = check_url(self.url or decoder.url)
        if not self.rest_url and not is_loopback(self.url):
            self.rest_url = decoder.rest_url
        if self.rest_url:
            check_url(self.rest_url, "http")
        elif decoder.needs_rest:
            raise ConfigurationError(
                f"collector {self.worker}: {self.venue} begins its books with REST snapshots; give rest_url beside url"
            )


def about(spec: CollectorSpec, venue_name: str, instruments: tuple[Instrument, ...]) -> bytes:
    """Describe a collector to whoever replays what it captures."""
    told = About(
        instance=spec.instance,
        venue=spec.venue,
        venue_name=venue_name,
        url=spec.url,
        rest_url=spec.rest_url,
        subscriptions=spec.subscriptions,
        steps=spec.steps,
        max_frame_bytes=spec.max_frame_bytes,
        first_instrument_id=spec.first_instrument_id,
        instrument_ids=spec.instrument_ids,
        instruments=instruments,
    )
    return msgspec.json.encode(told)
