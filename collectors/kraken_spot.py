"""What both versions of Kraken's WebSocket share: books of a chosen depth under one checksum, and one list of pairs."""

from typing import ClassVar

from collectors import kraken_pairs
from collectors.decoder import Decoder
from collectors.instrument_line import InstrumentLine
from shm.outlet import DECODED, SNAPSHOT, WIDER, apply_levels


class KrakenSpot(Decoder):
    """A decoder of level texts, whose snapshots fix an instrument's decimals."""

    rest_url: str = "https://api.kraken.com"
    default_depth: ClassVar[int] = 10

    def steps_urls(self) -> list[str]:
        """Return where the list of pairs is."""
        return [self.rest_url + kraken_pairs.PATH]

    def _take_answer(self, url: str, body: bytes, ts: int) -> None:
        """Take tick and lot from the list of pairs."""
        del ts
        if kraken_pairs.PATH in url:
            self._take_steps(kraken_pairs.steps_of(body))

    def _apply(
        self,
        symbol: str,
        line: InstrumentLine,
        flags: int,
        bids: bytes,
        asks: bytes,
        time: bytes,
        checksum: int,
        ts: int,
    ) -> int:
        """Apply one book frame; open a wider version first where it needs one."""
        texts = (bids, len(bids), asks, len(asks), time, len(time))
        status = apply_levels(line.handle, flags, *texts, checksum, ts)
        if status == WIDER:
            self._open_version(line, ts)
            status = apply_levels(line.handle, flags, *texts, checksum, ts)
        if status:
            return self._book_failed(symbol, line, status, ts)
        if flags & SNAPSHOT:
            line.ask_at = 0
        return DECODED
