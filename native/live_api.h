/* Live books: level and trade texts in, a checked book and its records out, one call a frame. Code: native/live.c. */
#ifndef TICKRING_LIVE_API_H
#define TICKRING_LIVE_API_H
#include "ring.h"

/* How a frame ended, for every venue. 0 is decoded; the rest are the only reasons for a rejection. WIDER is no end:
   open an instrument version of scales `want_price_scale`, `want_qty_scale` and call again; nothing was changed. */
enum tr_frame_status {
    TR_FRAME_WIDER = -1,
    TR_FRAME_OK = 0,
    TR_FRAME_MALFORMED_JSON = 1,
    TR_FRAME_UNEXPECTED_SHAPE = 2,
    TR_FRAME_UNKNOWN_SYMBOL = 3,
    TR_FRAME_UNKNOWN_CHANNEL = 4,
    TR_FRAME_NOT_A_NUMBER = 5,
    TR_FRAME_TOO_MANY_DIGITS = 6,
    TR_FRAME_OUT_OF_RANGE = 7,
    TR_FRAME_CHECKSUM = 8,
    TR_FRAME_NO_SNAPSHOT = 9,
    TR_FRAME_CROSSED = 10,
    TR_FRAME_TOO_LARGE = 11,
    TR_FRAME_LATE = 12,
    TR_FRAME_DUPLICATE = 13,
    TR_FRAME_NOT_PUBLISHED = 14,
    TR_FRAME_STATUSES = 15
};

/* What is counted: index 0 to 14 frames by status (0: decoded), 14 + GapReason the gaps by reason, then these. */
enum tr_count {
    TR_COUNT_GAPS = 14,
    TR_COUNT_RECORDS = 23,
    TR_COUNT_CHECKSUMS_OK = 24,
    TR_COUNT_CHECKSUMS_BAD = 25,
    TR_COUNT_LEVELS = 26,
    TR_COUNT_LEVELS_ABSENT = 27,
    TR_COUNT_TRADES = 28,
    TR_COUNT_TRADES_DUPLICATE = 29,
    TR_COUNT_BOOKS = 30,
    TR_COUNT_WIDENINGS = 31,
    TR_COUNT_STALE = 32,
    TR_COUNT_ORACLE_AGREE = 33,
    TR_COUNT_ORACLE_DISAGREE = 34,
    TR_COUNTS = 35
};

/* `flags` of tr_live_levels and tr_live_trade. */
enum tr_frame_flags {
    TR_FLAG_SNAPSHOT = 1,
    TR_FLAG_CHECKSUM = 2,
    TR_FLAG_ENDS_FRAME = 4
};

/* What frames took from ts_recv to their publication, and how far ts_recv was behind ts_event at the least, since it was
   last taken. counts[i] is of frames below 1,024 << i ns, the last of all others. */
enum { TR_TOOK_COUNTS = 12 };
typedef struct tr_took {
    int64_t frames;
    int64_t sum_ns;
    int64_t longest_ns;
    int64_t least_behind_ns; /* INT64_MAX: no frame told its time */
    int64_t counts[12];
} tr_took;

/* Where a collector's records go, its counts and its scratch memory; shared by all its instruments. One thread. */
typedef struct tr_outlet tr_outlet;

/* One instrument. The fields up to `tail` may be read at any time; but for `seq` and `is_chained` they are set by the
   calls below only. */
typedef struct tr_live {
    int64_t instrument_id;
    int64_t state;
    int64_t has_book; /* a depth was set: it goes LIVE by a snapshot; otherwise by its first trade */
    int64_t book_is_valid;
    int64_t version;
    int64_t price_scale;
    int64_t qty_scale;
    int64_t want_price_scale;
    int64_t want_qty_scale;
    int64_t depth;
    int64_t frame_no;
    int64_t ts_event;
    int64_t last_trade_id;
    int64_t seq;        /* the venue's number of the last frame that the book contains; the decoder's to set */
    int64_t is_chained; /* the decoder's word that frames by number may follow */
    int64_t book_frames; /* that came, refused ones included: what tells a silent channel */
    int64_t trades_seen; /* likewise, repeats included */
    void *book;
    tr_outlet *outlet;
    struct tr_live_tail *tail;
} tr_live;

/* `books` and `latest` may be NULL; `counts` are TR_COUNTS pointers, each to a counter that stays where it is.
   `max_levels` bounds one frame: more are TOO_LARGE. NULL when memory is short. */
tr_outlet *tr_outlet_new(tr_producer *events, tr_producer *books, tr_producer *latest, int64_t **counts, int64_t max_levels);
void tr_outlet_free(tr_outlet *o);

/* Copy what was measured and begin anew. */
void tr_outlet_take_took(tr_outlet *o, tr_took *out);

/* A GAP that names no instrument (instrument_id 0): a frame was lost that nobody can attribute. */
int64_t tr_outlet_gap(tr_outlet *o, int64_t reason, int64_t frames_lost, int64_t ts_recv);

/* `depth` 0: the venue sends the whole book; `latest_index` is its slot in `latest`. NULL when memory is short. */
tr_live *tr_live_new(tr_outlet *o, int64_t instrument_id, int64_t depth, int64_t latest_index);
void tr_live_free(tr_live *l);
void tr_live_set_depth(tr_live *l, int64_t depth);
void tr_live_set_version(tr_live *l, int64_t version, int64_t price_scale, int64_t qty_scale);

/* One book frame: each side's text (0 bytes where absent), the time as RFC 3339 text (0 bytes: newest of the rows' own,
   else the previous frame's, else ts_recv), the checksum where TR_FLAG_CHECKSUM. Returns a tr_frame_status; it is
   counted here with TR_FLAG_ENDS_FRAME. */
int64_t tr_live_levels(tr_live *l, int64_t flags, const char *bids, int64_t bids_bytes, const char *asks, int64_t asks_bytes, const char *time, int64_t time_bytes, int64_t checksum, int64_t ts_recv);

/* Trades in two steps, so that a frame is published whole or not at all: stage each, then commit (or abandon).
   `time` is seconds or RFC 3339, quoted or bare; trade_id 0: the venue gives none. side: the taker's, +1, -1 or 0.
   After TOO_MANY_DIGITS the wanted scales are those that would hold the trade, as far as 18 digits go. */
int64_t tr_live_trade(tr_live *l, int64_t flags, const char *price, int64_t price_bytes, const char *qty, int64_t qty_bytes, const char *time, int64_t time_bytes, int64_t trade_id, int64_t side, int64_t ts_recv);

/* The same from the row of a trade as Kraken v1 writes it: ["price","qty","seconds","b" or "s", ...]. */
int64_t tr_live_trade_row(tr_live *l, int64_t flags, const char *row, int64_t row_bytes, int64_t ts_recv);

/* Publish what is staged; with TR_FLAG_ENDS_FRAME the frame's end is counted here. */
int64_t tr_outlet_commit(tr_outlet *o, int64_t flags);
void tr_outlet_abandon(tr_outlet *o);

/* Publish [GAP when gap_reason > 0] STATE. A state but LIVE and STALE makes the book invalid until a snapshot, and its
   slot in `latest` empty. */
int64_t tr_live_set_state(tr_live *l, int64_t state, int64_t state_reason, int64_t gap_reason, int64_t frames_lost, int64_t ts_recv);

/* Publish a GAP and leave the state as it is: what was lost is not the book's. */
int64_t tr_live_gap(tr_live *l, int64_t gap_reason, int64_t frames_lost, int64_t ts_recv);

/* Publish SNAPSHOT_BEGIN .. SNAPSHOT_END from the book as it is; NO_SNAPSHOT when it is not valid. */
int64_t tr_live_republish(tr_live *l, int64_t ts_recv);

/* The checksum of Kraken over the book's ten best levels a side, at the widths of the last snapshot. */
int64_t tr_live_crc_kraken(tr_live *l);

/* Count a frame that ended outside these calls. */
void tr_outlet_count(tr_outlet *o, int64_t status);

/* For tests and tools. CRC-32 as zlib's, by both ways (folded: 4 to 4,096 bytes, else -1); decimal text to integer at a scale, a tr_frame_status; time text to ns, or -1. */
int64_t tr_crc32(int64_t crc, const char *text, int64_t n);
int64_t tr_crc32_folded(const char *text, int64_t n);
int64_t tr_decimal_parse(const char *text, int64_t n, int64_t scale, int64_t *value);
int64_t tr_time_parse(const char *text, int64_t n);
int64_t tr_decimal_format(int64_t value, char *out24);
#endif
