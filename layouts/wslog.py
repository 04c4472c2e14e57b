"""The bytes of a `.wslog` file: every frame of a venue verbatim, with what it became.

**Layout** little-endian. One file per collector process and hour; WSLOG_FILE opens it:
    0    magic             S8      TRWSLG01
    8    header_bytes      u32     where the first entry begins, a multiple of 64
    12   entry_bytes       u32     64: the length of an entry's header
    16   epoch             i64     of the collector's process: of every record its frames became
    24   first_entry_no    i64     number of the file's first entry
    32   first_seq         i64     seq of the events ring when the file was begun
    40   created_ns        i64     ns since the epoch, our clock
    48   ring_uuid         u8 x16  of the events ring
    64   part              u32     number of the file in its process, from 0
    68   zero              u32
    72   text_bytes        u32     of the JSON text that follows the header: `collectors.wslog.About`
    76   crc32             u32     of the header and its text, these four bytes taken as zero
    80   worker            S48     name of the collector
then the text, zero bytes up to header_bytes, and entries one after another, each a WSLOG_ENTRY and its payload:
    0    magic             u32     0x31455357 ("WSE1")
    4    header_crc32      u32     of bytes 8 to 63
    8    payload_bytes     u32
    12   payload_crc32     u32
    16   entry_no          i64     from 1, contiguous over the files of one process: a hole is an entry that was lost
    24   ts_recv           i64     ns since the epoch, our clock at entry of the socket's read callback
    32   epoch             i64     with first_seq the identity of the first record that it became
    40   first_seq         i64     seq of that record; of the next one to come where it became none
    48   records           u32     how many records it became; 0xFFFFFFFF: the process died with it in hand
    52   connection        u32     number of the connection in its process, from 1; 0: none yet
    56   entry             u8      `Entry`: what it is
    57   status            u8      FRAME: 0 decoded, else `Reject`, 254 in hand, 255 abandoned; CLOSE: `GapReason`, 0: by us
    58   key_bytes         u16     the payload's first bytes are a key: the url of a REST answer
    60   zero              u32
CRCs are those of zlib. Payloads are not padded: an entry may begin at any byte.

**Invariants** (1) An entry is believed only when both its CRCs hold. (2) entry_no grows by one; what is missing was lost.
"""

from enum import IntEnum

import numpy as np

from layouts.abi import check_layout

WSLOG_MAGIC = b"TRWSLG01"
ENTRY_MAGIC = 0x31455357
ENTRY_BYTES = 64
IN_HAND = 0xFFFFFFFF
STATUS_IN_HAND = 254
STATUS_ABANDONED = 255


class Entry(IntEnum):
    """What an entry is; one byte of its header.

    START: the process began; payload `{"previous_epoch", "frames_abandoned"}`. OPEN, CLOSE: of the link. FRAME: a whole
    message of the venue. SENT: a text of ours. REST: an answer, its url the key. TIMER: the decoder's timer ran.
    REPUBLISH: a consumer asked for the book of the symbol in the payload. TOO_LARGE: a message was refused unread, the
    payload its least length in bytes, as text. END: the file is whole, nothing follows. SILENCE: a channel was found silent;
    payload [step, channel, symbol]. SUBSCRIBE: the subscriptions were changed to the payload's.
    """

    FRAME = 1
    OPEN = 2
    CLOSE = 3
    SENT = 4
    REST = 5
    TIMER = 6
    REPUBLISH = 7
    TOO_LARGE = 8
    START = 9
    END = 10
    SILENCE = 11
    SUBSCRIBE = 12


WSLOG_FILE = check_layout(
    "WSLOG_FILE",
    np.dtype(
        [
            ("magic", "S8"),
            ("header_bytes", "<u4"),
            ("entry_bytes", "<u4"),
            ("epoch", "<i8"),
            ("first_entry_no", "<i8"),
            ("first_seq", "<i8"),
            ("created_ns", "<i8"),
            ("ring_uuid", "<u1", (16,)),
            ("part", "<u4"),
            ("zero", "<u4"),
            ("text_bytes", "<u4"),
            ("crc32", "<u4"),
            ("worker", "S48"),
        ]
    ),
    128,
    record=False,
)

WSLOG_ENTRY = check_layout(
    "WSLOG_ENTRY",
    np.dtype(
        [
            ("magic", "<u4"),
            ("header_crc32", "<u4"),
            ("payload_bytes", "<u4"),
            ("payload_crc32", "<u4"),
            ("entry_no", "<i8"),
            ("ts_recv", "<i8"),
            ("epoch", "<i8"),
            ("first_seq", "<i8"),
            ("records", "<u4"),
            ("connection", "<u4"),
            ("entry", "<u1"),
            ("status", "<u1"),
            ("key_bytes", "<u2"),
            ("zero", "<u4"),
        ]
    ),
    ENTRY_BYTES,
    record=False,
)
