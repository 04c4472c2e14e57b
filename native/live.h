/*
 * The inside of live books, shared by native/live*.c: what an instrument and its outlet hold beyond live_api.h.
 *
 * Invariants
 *     L1  A frame's text is scanned whole before the book is touched: a frame that is refused for its text
 *         has changed nothing.
 *     L2  A frame's records are staged, then published in one batch, the last with LAST_IN_FRAME; a frame whose
 *         check fails publishes GAP and STATE instead and leaves book_is_valid 0.
 *     L3  While book_is_valid is 0 only a snapshot is applied.
 *     L4  crc_text[side] is right for the levels nearer to the best than stale_from[side]; when that is
 *         TR_CRC_LEVELS on both sides, crc is right too.
 */
#ifndef TICKRING_LIVE_H
#define TICKRING_LIVE_H

#include <assert.h>

#include "book.h"
#include "layouts.h"
#include "live_api.h"
#include "region.h"

#define TR_CRC_LEVELS 10

#define TR_CRC_LEVEL_BYTES 40 /* two numbers of 19 digits at most */
#define TR_CRC_TEXT_BYTES (TR_CRC_LEVELS * TR_CRC_LEVEL_BYTES)

struct tr_staged_trade {
    tr_live *live;
    int64_t previous_trade_id;
    int64_t previous_ts_event;
    int64_t previous_state;
};

struct tr_outlet {
    tr_producer *events;
    tr_producer *books;
    tr_producer *latest;
    int64_t *counts[TR_COUNTS];
    int64_t max_levels;
    int64_t staged; /* records */
    int64_t records_capacity;
    int64_t trades_staged;
    int64_t trades_capacity;
    int64_t repeats_staged; /* trades of the frame that were counted as duplicates */
    int64_t ts_event; /* newest of any instrument */
    tr_took took;
    struct tr_level_pair *pairs;
    int64_t *cut_prices;
    int64_t cut_capacity;
    struct tr_event *records;
    struct tr_staged_trade *trades;
    struct tr_book book_record;
};

struct tr_live_tail {
    int64_t latest_index;
    int64_t floor_scale[2]; /* decimals that refused numbers needed: the next version has at least these */
    int64_t crc_width[2];   /* decimals of price and qty as the last snapshot wrote them */
    int64_t top[4];         /* of the last QUOTE */
    int64_t gap_edges[2];   /* venue numbers that the next GAP names */
    int text_is_fixed[2];   /* prices, quantities of the last snapshot keep zeros at their end */
    int64_t nearest[2];     /* distance from the best of the nearest level changed in this frame: bid, ask */
    int64_t stale_from[2];  /* distance from the best of the nearest level that changed since its text was written */
    int64_t crc;
    int32_t crc_end[2][TR_CRC_LEVELS]; /* where the text of each level ends */
    char crc_text[2][TR_CRC_TEXT_BYTES + 24];
};

static inline void tr_count(tr_outlet *o, int64_t what, int64_t n) { *o->counts[what] += n; }

/* What a frame may still need after its levels: STATE, QUOTE, and room to spare. */
#define TR_CLOSING_RECORDS 4

/* Room for `n` more staged records; 0 when memory is short. */
int tr_outlet_reserve(tr_outlet *o, int64_t n);

/* Stage one record; the caller has reserved the room. */
static inline struct tr_event *tr_stage(tr_outlet *o, const tr_live *l, uint8_t kind, uint8_t marks,
                                        int64_t ts_recv) {
    assert(o->staged < o->records_capacity);
    struct tr_event *e = &o->records[o->staged++];
    e->stamp = 0;
    e->ts_event = l->ts_event;
    e->ts_recv = ts_recv;
    e->instrument_id = (uint16_t)l->instrument_id;
    e->kind = kind;
    e->marks = (uint8_t)(marks | l->state);
    e->publish_delta_ns = 0;
    return e;
}

static inline void tr_words(struct tr_event *e, int64_t a, int64_t b, int64_t c, int64_t d) {
    e->word_0 = a;
    e->word_1 = b;
    e->word_2 = c;
    e->word_3 = d;
}

/* Stage one LEVEL; the caller has reserved the room. */
static inline void tr_stage_level(tr_live *l, int64_t side, uint8_t marks, int64_t price, int64_t qty, int64_t venue_seq,
                                  int64_t ts_recv) {
    marks = (uint8_t)(marks | (side > 0 ? TR_MARK_BUY : TR_MARK_SELL));
    tr_words(tr_stage(l->outlet, l, TR_KIND_LEVEL, marks, ts_recv), price, qty, venue_seq, l->frame_no);
}

/* Stage the whole book as SNAPSHOT_BEGIN .. _END, with room for what closes a frame; 0 when memory is short. */
int tr_live_stage_snapshot(tr_live *l, int64_t ts_recv);

/* Stage a QUOTE when the top differs from that of the last one. */
void tr_live_stage_quote(tr_live *l, int64_t ts_recv);

/* tr_live_rows for an update whose rows are in the outlet's scratch already: n[0] bids, then n[1] asks, at the book's scale. */
int64_t tr_live_read_rows(tr_live *l, int64_t flags, const int64_t n[2], int64_t ts_newest, const char *time,
                          int64_t time_bytes, int64_t venue_seq, int64_t ts_recv);

/* Publish what is staged, the last record marked LAST_IN_FRAME. First seq, 0 when nothing was staged, or < 0. */
int64_t tr_outlet_flush(tr_outlet *o);

/* The BOOK record as of `event_seq`, the last EVENT of its frame: to .latest, and to the books ring when `to_ring`.
   A book that is not valid shows no level. */
void tr_live_publish_book(tr_live *l, int64_t event_seq, int64_t ts_recv, int to_ring);

#endif
