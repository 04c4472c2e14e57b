"""What a running collector asks its venue for is changed channel by channel; what stays is not touched.

**Protocol** SIGHUP has a collector read its spec again (`reread`). `change` takes the whole list that is wanted from now on:
what is gone is unsubscribed from, what is new subscribed to, in one batch of texts. A book that is gone is SYNCING for good,
one that is new SYNCING until its snapshot.
**Failure** A list that the venue does not have (channel, depth), or for which no ids are left, changes nothing.
"""

import signal
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from collectors.collector_spec import CollectorSpec
from collectors.decoder import Decoder, Subscription
from layouts import InstrumentState, StateReason
from shm.errors import ConfigurationError

Part = tuple[str, int, str]
"""Channel, depth, symbol."""


class ReloadFlag:
    """True once SIGHUP has arrived: the spec file is to be read again."""

    def __init__(self) -> None:
        self.is_set = False
        signal.signal(signal.SIGHUP, self._set)

    def _set(self, *_: object) -> None:
        self.is_set = True


def reread(path: str, present: CollectorSpec) -> CollectorSpec:
    """Return the spec as its file is now.

    Raises:
        ConfigurationError: it cannot be read, or more than its subscriptions has changed.
    """
    try:
        spec = msgspec.json.decode(Path(path).read_bytes(), type=CollectorSpec)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read again: {error}") from None
    if msgspec.structs.replace(spec, subscriptions=present.subscriptions) != present:
        raise ConfigurationError(
            f"{path}: more than the subscriptions has changed; restart this collector to apply it"
        )
    return spec


def change(decoder: Decoder, wanted: Sequence[Subscription], ts: int) -> tuple[int, int]:
    """Ask for these subscriptions instead of the present ones; returns how many channels of symbols have come and gone.

    Raises:
        ConfigurationError: a channel or depth that the venue does not have, or no id is left for a symbol.
    """
    after = [decoder._checked(each) for each in wanted]
    decoder._add(symbol for each in after for symbol in each.symbols)
    before_parts, after_parts = _parts(decoder.subscriptions), _parts(after)
    gone = [part for part in before_parts if part not in after_parts]
    new = [part for part in after_parts if part not in before_parts]
    decoder.subscriptions = after
    for each in _grouped(gone):
        decoder.outbox += decoder.unsubscribe_frames(each)
    for channel, _, symbol in gone:
        if channel == "book":
            line = decoder.instruments[symbol]
            line.has_book, line.ask_at = False, 0
            line.live.set_state(InstrumentState.SYNCING, StateReason.UNSUBSCRIBED, ts)
    for channel, depth, symbol in new:
        if channel == "book":
            line = decoder.instruments[symbol]
            decoder._set_depth(line, depth)
            decoder.expect_book(line, ts)
    for each in _grouped(new):
        decoder.outbox += decoder.subscribe_frames(each)
    return len(new), len(gone)


def _parts(subscriptions: Iterable[Subscription]) -> dict[Part, None]:
    """Return each channel of each symbol once, in order."""
    return {(s.channel, s.depth, symbol): None for s in subscriptions for symbol in s.symbols}


def _grouped(parts: Iterable[Part]) -> list[Subscription]:
    """Return as few subscriptions as these parts need."""
    symbols: dict[tuple[str, int], list[str]] = {}
    for channel, depth, symbol in parts:
        symbols.setdefault((channel, depth), []).append(symbol)
    return [Subscription(c, tuple(names), depth) for (c, depth), names in symbols.items()]
