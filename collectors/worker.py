"""A collector process takes one venue's frames off a socket and leaves records in its rings; it does nothing else.

`python -m collectors.worker spec.json`, the spec being a `CollectorSpec`. Rings: `<worker>.events`, `<worker>.books` with its
`.latest`, `<worker>.instruments`.

**Protocol** counters, rings under one new epoch, RESTART when an earlier process was here, READY, then the session. Per frame:
frames_in first, then exactly one of decoded, rejected for one reason, abandoned. SIGTERM: the link is closed with 1000, the
rings say STOPPED, exit 0. SIGHUP: the spec is read again and its subscriptions, nothing else, are taken up.

**Failure** kill -9: what was read and not published is counted by the successor as abandoned and told in its RESTART record;
its book is empty until the venue's snapshot. An error in a decoder abandons that frame and opens the link anew.

**Cost** bench_collector_kraken_v1_frame (decode to publish); numba and pyarrow are never loaded here.
"""

import asyncio
import sys
from collections.abc import Iterable

import msgspec
import numpy as np
import structlog

from collectors import measures, staleness, wslog_writer
from collectors.allowance import Rate
from collectors.calendar import calendars
from collectors.coinbase_key import SigningKey
from collectors.collector_spec import CollectorSpec, about
from collectors.decoder import Decoder
from collectors.instruments import InstrumentTable
from collectors.measures import Measures
from collectors.rest import COUNTERS as REST_COUNTERS
from collectors.rest import RestClient
from collectors.rings import Rings
from collectors.session import Session
from collectors.staleness import Staleness, Step, take_step
from collectors.subscribing import ReloadFlag, change, reread
from collectors.venues import DECODERS
from collectors.wslog import Started
from collectors.wslog_writer import Capture, Decode, switch_file
from layouts import EVENT, RESTART, Entry, GapReason, Kind
from shm import clock
from shm._native import lib
from shm.consumer import REQUEST_BITS
from shm.counters import Counters
from shm.errors import ConfigurationError
from shm.outlet import COUNT_NAMES, Outlet, Reject
from shm.worker import StopFlag, run_worker

LOOK_S = 0.25
"""How often a consumer's requests for snapshots are looked for."""
CAPTURE_LOOK_S = 0.05
"""The same while frames are kept: what has gathered is handed to the disk at each look, before a burst fills both halves."""
SHOW_S = 0.5
"""How often the worker's heartbeat and gauges are shown, at least; a change in its books is shown at the next look."""
BEAT_FRAMES = 16
"""The heartbeat is also shown every so many frames: a backlog that keeps the timers waiting is work, not a hang."""
BEAT_S = 1.0
"""How often a HEARTBEAT record goes through the pipeline and the decoder's timer runs."""
SILENCE_S = 5.0
"""A link without any text of the venue for so long, not even an answer to a probe, is dead."""

COUNTERS = (
    "frames_in",
    *COUNT_NAMES,
    "frames_abandoned",
    "reconnects",
    "connected",
    "books_live",
    "books_total",
    "last_data_ns",
    "beats",
    "reloads",
    "reloads_refused",
    *REST_COUNTERS,
    *staleness.COUNTERS,
    *measures.COUNTERS,
    *wslog_writer.COUNTERS,
)

log = structlog.get_logger()


class Collector:
    """The session's handler: counts a frame in, has it decoded, and sends what the decoder wants sent."""

    def __init__(self, spec: CollectorSpec, counters: Counters, rings: Rings) -> None:
        self.spec = spec
        self.counters = counters
        self.rings = rings
        self.outlet = Outlet(rings.events, rings.books, rings.latest, counters)
        self.table = InstrumentTable(
            spec.worker,
            DECODERS[spec.venue].venue,
            spec.first_instrument_id,
            spec.instrument_ids,
            rings.instruments,
            spec.state_dir,
        )
        self.decoder: Decoder = DECODERS[spec.venue](
            self.outlet,
            self.table,
            spec.subscriptions,
            max_frame_bytes=spec.max_frame_bytes,
            steps=spec.steps,
        )
        self.decoder.url = spec.url
        self.decoder.rest_url = spec.rest_url
        per_s, burst = self.decoder.rest_rate
        rate = Rate(per_s * spec.rest_share, max(1.0, burst * spec.rest_share))
        self.rest = RestClient(self.on_answer, counters.add, rate, spec.max_frame_bytes)
        calendar_of = calendars(spec.sessions, self.decoder.venue)
        self.staleness = Staleness(self.decoder, counters.add, calendar_of)
        self.measures = Measures(self.outlet, counters)
        self.wants_new_link = False
        """A channel stayed silent whatever was tried: the session is to open the link anew."""
        self._key = SigningKey(spec.key_file) if spec.key_file else None
        self.stopping = False
        self._steps_wanted = set(self.decoder.steps_urls() if spec.rest_url else ())
        self._frames_in = counters.pointer("frames_in")
        self.capture = Capture(
            spec.capture, spec.instance, spec.worker, counters, rings.events, self._about
        )
        self._wish = switch_file(spec.state_dir, spec.worker)
        self._is_capture_wanted = False
        self._decode: Decode = self.decoder.decode
        self._outbox = self.decoder.outbox
        self._wanted = self.decoder.rest_wanted
        control = rings.events.control_region
        assert control is not None
        self._control = control.pointer
        self._last_data_ns = counters.get("last_data_ns")
        self._event = np.zeros(1, EVENT)
        self._opened = 0

    # ---- the session's calls ----

    def on_open(self, ts_recv: int) -> Iterable[bytes]:
        """Subscribe."""
        if self._opened:
            self.counters.add("reconnects")
        self._opened += 1
        self.counters.set("connected", 1)
        self.staleness.on_open()
        self.capture.next_connection()
        with self.capture.entry(Entry.OPEN, ts_recv):
            self.decoder.on_open(ts_recv)
        self._wanted += sorted(self._steps_wanted)
        self._ask_for_answers()
        return self.take_outbox()

    def on_frame(self, frame: bytes, ts_recv: int) -> Iterable[bytes]:
        """Count and decode one frame."""
        n = self._frames_in[0] + 1
        self._frames_in[0] = n
        if n % BEAT_FRAMES == 0:
            self.counters.heartbeat()
        self._last_data_ns = ts_recv
        try:
            self._decode(frame, ts_recv)
        except Exception:
            self.counters.add("frames_abandoned")
            self.outlet.abandon()
            self.outlet.gap(GapReason.REFUSED_FRAME, 1, ts_recv)
            raise
        if self._wanted:
            self._ask_for_answers()
        return self.take_outbox() if self._outbox else ()

    def on_answer(self, url: str, body: bytes, ts_recv: int) -> bool:
        """Take one REST answer; False when it cannot be read."""
        with self.capture.entry(Entry.REST, ts_recv, body, url.encode()):
            is_read = self.decoder.rest_response(url, body, ts_recv)
        if is_read:
            self._steps_wanted.discard(url)
        return is_read

    def probe(self) -> Iterable[bytes]:
        """Return a text that the venue answers."""
        self.decoder.outbox.append(self.decoder.ping())
        return self.take_outbox()

    def on_too_large(self, n_bytes: int, ts_recv: int) -> None:
        """Count the frame that the session refused by its length."""
        self.counters.add("frames_in")
        with self.capture.entry(Entry.TOO_LARGE, ts_recv, b"%d" % n_bytes, status=Reject.TOO_LARGE):
            self.outlet.gap(GapReason.REFUSED_FRAME, 1, ts_recv)
            self.outlet.count(Reject.TOO_LARGE)
        log.error("frame refused", n_bytes=n_bytes, limit=self.spec.max_frame_bytes)

    def on_close(self, reason: GapReason, ts_recv: int) -> None:
        """Every instrument has a gap from here to its next snapshot."""
        self.counters.set("connected", 0)
        self.rest.drop()
        if self.stopping:
            self.capture.note(Entry.CLOSE, ts_recv)
            return
        log.warning("link lost", reason=reason.name.lower())
        with self.capture.entry(Entry.CLOSE, ts_recv, status=reason):
            self.decoder.on_close(ts_recv)

    # ---- the timer's calls ----

    def begin(self) -> None:
        """Begin to keep frames where they are wanted, and tell the restart."""
        events = self.rings.events
        abandoned = self._count_abandoned() if events.is_restart else 0
        self.capture.recover()
        self._switch_capture()
        now = clock.now_ns()
        started = msgspec.json.encode(Started(events.previous_epoch, abandoned))
        with self.capture.entry(Entry.START, now, started):
            if events.is_restart:
                self._tell_restart(abandoned, now)

    def _tell_restart(self, abandoned: int, now: int) -> None:
        """Publish RESTART as the epoch's first record: an earlier process was here."""
        events = self.rings.events
        record = self._event.view(RESTART)
        self._fill(record, Kind.RESTART)
        record["epoch"] = events.epoch
        record["previous_epoch"] = events.previous_epoch
        record["frames_abandoned"] = abandoned
        events.publish_batch(self._event)
        self.counters.add("records_published")
        self.outlet.gap(GapReason.COLLECTOR_RESTART, abandoned, now)
        log.warning("restarted", epoch=events.epoch, frames_abandoned=abandoned)

    def reload(self, path: str) -> None:
        """Ask for what the spec file now subscribes to; refused whole where anything else of it has changed."""
        try:
            spec = reread(path, self.spec)
            now = clock.now_ns()
            with self.capture.entry(Entry.SUBSCRIBE, now, msgspec.json.encode(spec.subscriptions)):
                new, gone = change(self.decoder, spec.subscriptions, now)
        except ConfigurationError as error:
            self.counters.add("reloads_refused")
            log.error("subscriptions are as they were", error=str(error))
            return
        self.spec = spec
        if spec.rest_url and new:
            self._steps_wanted = set(self.decoder.steps_urls())
            self._wanted += sorted(self._steps_wanted)
        self.counters.add("reloads")
        log.info("subscriptions changed", new=new, gone=gone)

    def answer_requests(self) -> None:
        """Publish the snapshots that consumers have asked for, and ask the venue for what the decoder's timer wants."""
        first = self.spec.first_instrument_id
        while (bit := lib.tr_take_snapshot_request(self._control)) >= 0:
            self._republish(first + (int(bit) - first) % REQUEST_BITS, clock.now_ns())
        self._ask_for_answers()

    def show(self, fd: int = -1) -> None:
        """Show the heartbeat and the gauges; `fd` is the link's socket."""
        self.measures.show(clock.monotonic_ns() / 1e9, fd)
        self.rings.heartbeat()
        self.counters.set("last_data_ns", self._last_data_ns)
        self.counters.set("books_live", self.decoder.books_live)
        self.counters.set("books_total", self.decoder.books_total)
        self.counters.heartbeat()

    def beat(self) -> None:
        """Publish HEARTBEAT and run the decoder's timer."""
        self.counters.add("beats")
        record = self._event
        self._fill(record, Kind.HEARTBEAT)
        record["word_0"] = self.counters.get("beats")
        self.rings.events.publish_batch(record)
        self.counters.add("records_published")
        self._switch_capture()
        now = clock.now_ns()
        with self.capture.entry(Entry.TIMER, now):
            self.decoder.on_timer(now)
        for notice in self.decoder.notices:
            log.warning("the venue says", text=notice)
        self.decoder.notices.clear()

    def look_for_silence(self) -> None:
        """Take the next step for each channel that is silent."""
        if not self.counters.get("connected"):
            return
        now = clock.now_ns()
        for found in self.staleness.look(clock.monotonic_ns(), now):
            name = found.step.name.lower()
            log.warning("silent channel", step=name, channel=found.channel, symbol=found.symbol)
            with self.capture.entry(Entry.SILENCE, now, msgspec.json.encode(found)):
                take_step(self.decoder, found, now)
            self.wants_new_link |= found.step is Step.RECONNECTED
        self.counters.set("channels_silent", self.staleness.silent)
        self.counters.set("channels_closed", self.staleness.closed)

    def _ask_for_answers(self) -> None:
        for url in self._wanted:
            self.rest.want(url)
        self._wanted.clear()

    def _switch_capture(self) -> None:
        """Begin or end to keep frames, as the configuration or a wish from outside says."""
        if self.spec.capture is None:
            return
        is_wanted = self.spec.capture.is_on or self._wish.exists()
        if is_wanted != self._is_capture_wanted:
            self._is_capture_wanted = is_wanted
            if is_wanted:
                self.capture.start()
            else:
                self.capture.stop()
            self._decode = self.capture.through(self.decoder.decode)

    def _republish(self, instrument_id: int, now: int) -> None:
        for symbol, line in self.decoder.instruments.items():
            if line.instrument.instrument_id == instrument_id:
                with self.capture.entry(Entry.REPUBLISH, now, symbol.encode()):
                    self.decoder.republish(instrument_id, now)

    def _about(self) -> bytes:
        return about(self.spec, self.decoder.venue, self.table.instruments())

    def take_outbox(self) -> list[bytes]:
        """Return what the decoder wants sent, once."""
        texts = self._outbox.copy()
        self._outbox.clear()
        self.capture.sent(texts)  # as they are before they are signed: no token gets to the disk
        return texts if self._key is None else [self._key.sign(text) for text in texts]

    def _fill(self, record: np.ndarray, kind: Kind) -> None:
        self._event.view(np.int64)[:] = 0
        record["kind"] = kind
        record["ts_event"] = record["ts_recv"] = clock.now_ns()

    def _count_abandoned(self) -> int:
        """Close the frame ledger of the process before: what it had read and neither decoded nor rejected."""
        counters = self.counters
        ended = sum(counters.get(f"rejected.{reason.name.lower()}") for reason in Reject)
        ended += counters.get("frames_decoded") + counters.get("frames_abandoned")
        abandoned = counters.get("frames_in") - ended
        counters.add("frames_abandoned", abandoned)
        return abandoned


async def _serve(
    collector: Collector, session: Session, stop: StopFlag, reload: ReloadFlag
) -> None:
    """Run the session and the timers until SIGTERM."""
    task = asyncio.create_task(session.run())
    next_beat = next_show = clock.monotonic_ns()
    while not stop.is_set and not task.done():
        collector.answer_requests()
        collector.capture.tick()
        now = clock.monotonic_ns()
        if now >= next_show or collector.decoder.books_live != collector.counters.get("books_live"):
            next_show = now + int(SHOW_S * 1e9)
            collector.show(session.fd)
        if now >= next_beat:
            next_beat += int(BEAT_S * 1e9)
            collector.beat()
        collector.look_for_silence()
        if reload.is_set:
            reload.is_set = False
            collector.reload(sys.argv[1])
        if collector.decoder.outbox:
            for text in collector.take_outbox():
                session.send(text)
        if collector.wants_new_link:
            collector.wants_new_link = False
            session.reconnect(GapReason.SILENCE)
        if collector.decoder.is_link_ending:
            session.renew()
        await asyncio.sleep(CAPTURE_LOOK_S if collector.capture.is_on else LOOK_S)
    collector.stopping = True
    await session.stop()
    await task
    await collector.rest.close()


def main(spec: CollectorSpec) -> int:
    """Run one collector until SIGTERM; returns the exit status."""
    stop, reload = StopFlag(), ReloadFlag()
    counters = Counters.create(spec.instance, spec.worker, COUNTERS, spec.reader_group)
    for gauge in ("connected", "books_live"):
        counters.set(gauge, 0)  # counts are inherited, what the predecessor last saw is not
    rings = Rings(spec)
    collector = Collector(spec, counters, rings)
    collector.begin()
    session = Session(spec.url, collector, spec.max_frame_bytes, SILENCE_S)
    counters.set_state("READY")
    asyncio.run(_serve(collector, session, stop, reload))
    counters.set_state("DRAINING")
    collector.capture.tick()
    collector.show()
    collector.capture.stop()
    rings.stop()
    counters.set_state("STOPPED")
    return 0


if __name__ == "__main__":
    run_worker(CollectorSpec, main)
