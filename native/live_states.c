/* A live book's states, gaps, snapshots from its own levels, and a version with more decimals. Invariants: native/live.h. */
#include "decimal.h"
#include "live.h"
#include "live_feed_api.h"

static const int64_t side_of[2] = {TR_BID, TR_ASK};

/* SNAPSHOT_BEGIN, every level from the worst to the best of a side (each an append in a consumer's book), _END. */
int tr_live_stage_snapshot(tr_live *l, int64_t ts_recv) {
    tr_outlet *o = l->outlet;
    const int64_t bids = tr_book_count(l->book, TR_BID);
    const int64_t asks = tr_book_count(l->book, TR_ASK);
    if (!tr_outlet_reserve(o, bids + asks + 2 + TR_CLOSING_RECORDS))
        return 0;
    tr_words(tr_stage(o, l, TR_KIND_SNAPSHOT_BEGIN, TR_MARK_SNAPSHOT, ts_recv), bids + asks, l->depth,
             l->version, l->frame_no);
    for (int s = 0; s < 2; s++) {
        const struct tr_level_pair *levels = tr_book_side_read(l->book, side_of[s]);
        const int64_t n = tr_book_used(l->book, side_of[s]);
        for (int64_t i = 0; i < n; i++)
            if (levels[i].qty > 0)
                tr_stage_level(l, side_of[s], TR_MARK_SNAPSHOT, levels[i].price, levels[i].qty, 0, ts_recv);
    }
    tr_words(tr_stage(o, l, TR_KIND_SNAPSHOT_END, TR_MARK_SNAPSHOT, ts_recv), bids, asks, l->version,
             l->frame_no);
    return 1;
}

void tr_live_stage_quote(tr_live *l, int64_t ts_recv) {
    int64_t top[4];
    tr_book_top(l->book, top);
    if (memcmp(top, l->tail->top, sizeof top) == 0)
        return;
    memcpy(l->tail->top, top, sizeof top);
    tr_words(tr_stage(l->outlet, l, TR_KIND_QUOTE, 0, ts_recv), top[0], top[1], top[2], top[3]);
}

/* ---- states ---- */

static void stage_gap(tr_live *l, int64_t gap_reason, int64_t frames_lost, int64_t ts_recv) {
    tr_outlet *o = l->outlet;
    if (l->ts_event == 0)
        l->ts_event = o->ts_event ? o->ts_event : ts_recv;
    if (gap_reason <= 0)
        return;
    int64_t *edges = l->tail->gap_edges;
    tr_words(tr_stage(o, l, TR_KIND_GAP, 0, ts_recv), edges[0], edges[1], frames_lost, gap_reason);
    edges[0] = edges[1] = 0;
    tr_count(o, TR_COUNT_GAPS + gap_reason, 1);
}

void tr_live_gap_edges(tr_live *l, int64_t venue_from, int64_t venue_to) {
    l->tail->gap_edges[0] = venue_from;
    l->tail->gap_edges[1] = venue_to;
}

int64_t tr_live_gap(tr_live *l, int64_t gap_reason, int64_t frames_lost, int64_t ts_recv) {
    if (!tr_outlet_reserve(l->outlet, 1))
        return TR_FRAME_NOT_PUBLISHED;
    stage_gap(l, gap_reason, frames_lost, ts_recv);
    return tr_outlet_flush(l->outlet) < 0 ? TR_FRAME_NOT_PUBLISHED : TR_FRAME_OK;
}

int64_t tr_live_set_state(tr_live *l, int64_t state, int64_t state_reason, int64_t gap_reason,
                          int64_t frames_lost, int64_t ts_recv) {
    tr_outlet *o = l->outlet;
    if (!tr_outlet_reserve(o, 2))
        return TR_FRAME_NOT_PUBLISHED;
    l->state = state;
    if (state != TR_STATE_LIVE && state != TR_STATE_STALE)
        l->book_is_valid = 0;
    stage_gap(l, gap_reason, frames_lost, ts_recv);
    tr_words(tr_stage(o, l, TR_KIND_STATE, 0, ts_recv), state, state_reason, l->version, l->frame_no);
    const int64_t records = o->staged;
    const int64_t seq = tr_outlet_flush(o);
    if (seq < 0)
        return TR_FRAME_NOT_PUBLISHED;
    if (o->latest && l->has_book)
        tr_live_publish_book(l, seq + records - 1, ts_recv, 0);
    return TR_FRAME_OK;
}

int64_t tr_live_republish(tr_live *l, int64_t ts_recv) {
    if (!l->book_is_valid)
        return TR_FRAME_NO_SNAPSHOT;
    if (!tr_live_stage_snapshot(l, ts_recv))
        return TR_FRAME_TOO_LARGE;
    return tr_outlet_flush(l->outlet) < 0 ? TR_FRAME_NOT_PUBLISHED : TR_FRAME_OK;
}

/* ---- widening ---- */

/* Multiply each price and quantity; the caller has made sure that they fit. */
static void rescale(tr_live *l, int64_t price_factor, int64_t qty_factor) {
    for (int s = 0; s < 2; s++) {
        struct tr_level_pair *levels = tr_book_side(l->book, side_of[s]);
        const int64_t n = tr_book_used(l->book, side_of[s]);
        for (int64_t i = 0; i < n; i++) {
            levels[i].price *= price_factor;
            levels[i].qty *= qty_factor;
        }
    }
}

int64_t tr_live_widen(tr_live *l, int64_t version, int64_t price_scale, int64_t qty_scale, int64_t ts_recv) {
    const int64_t is_valid = l->book_is_valid;
    if (is_valid)
        rescale(l, tr_power_of_ten[price_scale - l->price_scale], tr_power_of_ten[qty_scale - l->qty_scale]);
    tr_live_set_version(l, version, price_scale, qty_scale);
    l->book_is_valid = is_valid;
    tr_count(l->outlet, TR_COUNT_WIDENINGS, 1);
    if (!is_valid)
        return tr_live_set_state(l, l->state, TR_REASON_NEW_VERSION, 0, 0, ts_recv);
    if (!tr_live_stage_snapshot(l, ts_recv))
        return TR_FRAME_TOO_LARGE;
    tr_live_stage_quote(l, ts_recv);
    return tr_outlet_flush(l->outlet) < 0 ? TR_FRAME_NOT_PUBLISHED : TR_FRAME_OK;
}
