/* One book frame from text to records: scan, apply, check, publish. Invariants: native/live.h. */
#include "live.h"

#include <stdlib.h>

#include "decimal.h"
#include "level_text.h"
#include "live_feed_api.h"
#include "row_text.h"
#include "timestamp.h"

static const int64_t side_of[2] = {TR_BID, TR_ASK};

struct frame {
    tr_live *live;
    int64_t flags;
    int64_t ts_recv;
    int64_t venue_seq;
    int64_t n[2]; /* pairs of bids, then of asks, in the outlet's scratch */
    int is_rows;  /* the text is of row_text.h, not of level_text.h */
    int64_t ts_newest; /* of the rows' own times, where they are in the scratch already */
};

/* ---- refusals ---- */

static int64_t gap_reason_of(int64_t status) {
    return status == TR_FRAME_CHECKSUM ? TR_GAP_CHECKSUM : TR_GAP_REFUSED_FRAME;
}

static int64_t state_reason_of(int64_t status) {
    return status == TR_FRAME_CHECKSUM ? TR_REASON_CHECKSUM : TR_REASON_REFUSED_FRAME;
}

/* The frame is lost and the book with it: L2, L3. */
static int64_t refuse(struct frame *f, int64_t status) {
    tr_live *l = f->live;
    l->outlet->staged = 0;
    tr_live_set_state(l, TR_STATE_SUSPECT, state_reason_of(status), gap_reason_of(status), 1, f->ts_recv);
    return status;
}

/* ---- scanning ---- */

static int scan_texts(struct frame *f, struct tr_level_scan *scan, const char *const text[2],
                      const int64_t bytes[2]) {
    int result = TR_FRAME_OK;
    for (int i = 0; i < 2; i++) {
        const int64_t before = scan->n;
        if (bytes[i] > 0) {
            const int status = tr_scan_levels(scan, text[i], text[i] + bytes[i]);
            if (status && status != TR_FRAME_TOO_MANY_DIGITS)
                return status;
            result = status ? status : result;
        }
        f->n[i] = scan->n - before;
    }
    return result;
}

/* Scales as the snapshot writes them; WIDER when the present version cannot hold it. */
static int64_t settle_scales(tr_live *l, const struct tr_level_scan *scan) {
    int64_t want[2];
    for (int i = 0; i < 2; i++) {
        want[i] = scan->width[i] > TR_SCALE_MAX ? scan->needed[i] : scan->width[i];
        want[i] = scan->needed[i] > want[i] ? scan->needed[i] : want[i];
        if (want[i] > TR_SCALE_MAX)
            return TR_FRAME_TOO_MANY_DIGITS;
        l->tail->crc_width[i] = want[i];
        want[i] = l->tail->floor_scale[i] > want[i] ? l->tail->floor_scale[i] : want[i];
    }
    if (l->version && want[0] <= l->price_scale && want[1] <= l->qty_scale)
        return TR_FRAME_OK;
    l->want_price_scale = want[0] > l->price_scale ? want[0] : l->price_scale;
    l->want_qty_scale = want[1] > l->qty_scale ? want[1] : l->qty_scale;
    return TR_FRAME_WIDER;
}

/* A number that did not fit asks for a wider version at the next snapshot. */
static void raise_floor(tr_live *l, const struct tr_level_scan *scan) {
    for (int i = 0; i < 2; i++)
        if (scan->needed[i] > l->tail->floor_scale[i] && scan->needed[i] <= TR_SCALE_MAX)
            l->tail->floor_scale[i] = scan->needed[i];
}

static int scan_rows(struct frame *f, struct tr_row_scan *scan, const char *const text[2],
                     const int64_t bytes[2]) {
    int result = TR_FRAME_OK;
    for (int i = 0; i < 2; i++) {
        if (bytes[i] <= 0)
            continue;
        const int64_t side = f->flags & TR_FLAG_BOTH_SIDES ? 0 : side_of[i];
        const int status = tr_scan_rows(scan, text[i], text[i] + bytes[i], side, f->n);
        if (status && status != TR_FRAME_TOO_MANY_DIGITS)
            return status;
        result = status ? status : result;
    }
    if (scan->time && tr_read_time(scan->time, scan->time_end - scan->time, &scan->level.ts_newest))
        return TR_FRAME_NOT_A_NUMBER;
    return result;
}

/* An update with more decimals than the version: whether the book can be widened to hold them. */
static int64_t wants_wider(tr_live *l) {
    l->want_price_scale = l->tail->floor_scale[0] > l->price_scale ? l->tail->floor_scale[0] : l->price_scale;
    l->want_qty_scale = l->tail->floor_scale[1] > l->qty_scale ? l->tail->floor_scale[1] : l->qty_scale;
    return tr_live_fits_wanted(l);
}

static int64_t scan_frame(struct frame *f, const char *const text[2], const int64_t bytes[2],
                          int64_t *ts_newest) {
    tr_live *l = f->live;
    tr_outlet *o = l->outlet;
    const int is_snapshot = (f->flags & TR_FLAG_SNAPSHOT) != 0;
    struct tr_row_scan rows = {
        .level = {.scale = {l->version ? l->price_scale : -1, l->version ? l->qty_scale : -1},
                  .pairs = o->pairs,
                  .capacity = o->max_levels},
    };
    struct tr_level_scan *scan = &rows.level;
    int64_t status = f->is_rows ? scan_rows(f, &rows, text, bytes) : scan_texts(f, scan, text, bytes);
    if (is_snapshot && (status == TR_FRAME_OK || status == TR_FRAME_TOO_MANY_DIGITS)) {
        const int64_t settled = settle_scales(l, scan);
        if (settled)
            return settled;
        memcpy(l->tail->text_is_fixed, rows.has_zeros, sizeof rows.has_zeros);
    } else if (status == TR_FRAME_TOO_MANY_DIGITS) {
        raise_floor(l, scan);
        if (f->is_rows && wants_wider(l))
            return TR_FRAME_WIDER;
    }
    *ts_newest = scan->ts_newest;
    return status;
}

/* ---- applying ---- */

/* Room for `more` levels on a side; 0 when memory is short. A book grows when an eighth of its levels more would not fit:
   one that is full of holes is squeezed then (tr_book_insert), and seldom. */
static int grow_book(tr_live *l, int64_t side, int64_t more) {
    int64_t capacity = tr_book_capacity(l->book);
    const int64_t held = tr_book_count(l->book, side);
    const int64_t levels = held + held / 8 + more;
    if (levels <= capacity || tr_book_used(l->book, side) + more <= capacity)
        return 1;
    while (capacity < levels)
        capacity *= 2;
    void *wider = malloc((size_t)tr_book_bytes(capacity));
    if (!wider)
        return 0;
    tr_book_copy(wider, capacity, l->book);
    free(l->book);
    l->book = wider;
    return 1;
}

static void note_change(struct tr_live_tail *t, int64_t side, int64_t distance) {
    const int64_t i = tr_book_side_index(side);
    if (distance < t->nearest[i])
        t->nearest[i] = distance;
}

/* Levels that the subscribed depth no longer covers: deleted here, and told to consumers. */
static int cut_to_depth(struct frame *f, int64_t side) {
    tr_live *l = f->live;
    tr_outlet *o = l->outlet;
    const int64_t cut = tr_book_count(l->book, side) - l->depth;
    if (l->depth == 0 || cut <= 0)
        return 1;
    if (cut > o->cut_capacity) {
        int64_t *wider = realloc(o->cut_prices, (size_t)cut * sizeof *wider);
        if (!wider)
            return 0;
        o->cut_prices = wider;
        o->cut_capacity = cut;
    }
    if (!tr_outlet_reserve(o, cut + TR_CLOSING_RECORDS))
        return 0;
    tr_book_truncate(l->book, side, l->depth, o->cut_prices);
    for (int64_t i = 0; i < cut; i++)
        tr_stage_level(l, side, 0, o->cut_prices[i], 0, f->venue_seq, f->ts_recv);
    note_change(l->tail, side, l->depth);
    return 1;
}

/* Apply one side's levels in their order, a few searched for at a time; how many deleted what was not there. */
static int64_t apply_side(struct frame *f, int64_t side, const struct tr_level_pair *pairs, int64_t n) {
    tr_live *l = f->live;
    const struct tr_level_pair *slots = tr_book_side_read(l->book, side);
    int64_t absent = 0;
    for (int64_t first = 0; first < n; first += TR_BOOK_LANES) {
        const int64_t some = n - first < TR_BOOK_LANES ? n - first : TR_BOOK_LANES;
        int64_t places[TR_BOOK_LANES];
        if (some > 1)
            tr_book_find_some(slots, tr_book_used(l->book, side), side, pairs + first, some, places);
        else
            places[0] = tr_book_find(slots, tr_book_used(l->book, side), side, pairs[first].price);
        for (int64_t k = 0; k < some; k++) {
            const struct tr_level_pair *pair = &pairs[first + k];
            const int64_t place = tr_book_place(slots, tr_book_used(l->book, side), side, pair->price, places[k]);
            int64_t distance, before;
            const int64_t change =
                tr_book_apply_at(l->book, side, pair->price, pair->qty, place, &distance, &before);
            if (change == TR_BOOK_ABSENT) {
                absent++;
                continue;
            }
            if (change != TR_BOOK_SAME)
                note_change(l->tail, side, distance);
            tr_stage_level(l, side, 0, pair->price, pair->qty, f->venue_seq, f->ts_recv);
        }
    }
    return absent;
}

static int64_t apply_update(struct frame *f) {
    tr_live *l = f->live;
    tr_outlet *o = l->outlet;
    const struct tr_level_pair *pairs = o->pairs;
    if (l->state == TR_STATE_STALE) {
        l->state = TR_STATE_LIVE;
        tr_words(tr_stage(o, l, TR_KIND_STATE, 0, f->ts_recv), TR_STATE_LIVE, TR_REASON_SILENCE,
                 l->version, l->frame_no);
    }
    for (int i = 0; i < 2; i++) {
        if (!grow_book(l, side_of[i], f->n[i]))
            return TR_FRAME_TOO_LARGE;
        tr_count(o, TR_COUNT_LEVELS_ABSENT, apply_side(f, side_of[i], pairs, f->n[i]));
        pairs += f->n[i];
    }
    for (int i = 0; i < 2; i++)
        if (f->n[i] && !cut_to_depth(f, side_of[i]))
            return TR_FRAME_TOO_LARGE;
    return TR_FRAME_OK;
}

static int64_t load_snapshot(struct frame *f) {
    tr_live *l = f->live;
    tr_outlet *o = l->outlet;
    struct tr_level_pair *pair = o->pairs;
    tr_book_clear(l->book);
    if (!grow_book(l, TR_BID, f->n[0] > f->n[1] ? f->n[0] : f->n[1]))
        return TR_FRAME_TOO_LARGE;
    for (int i = 0; i < 2; i++) {
        if (f->n[i])
            tr_book_load(l->book, side_of[i], &pair->price, f->n[i]);
        if (l->depth)
            tr_book_truncate(l->book, side_of[i], l->depth, NULL);
        pair += f->n[i];
    }
    l->tail->nearest[0] = 0;
    l->tail->nearest[1] = 0;
    return TR_FRAME_OK;
}

/* ---- what closes a frame ---- */

static int64_t check_frame(struct frame *f, int64_t checksum) {
    tr_live *l = f->live;
    struct tr_live_tail *t = l->tail;
    for (int i = 0; i < 2; i++)
        if (t->nearest[i] < t->stale_from[i])
            t->stale_from[i] = t->nearest[i];
    if (tr_book_crossed(l->book))
        return TR_FRAME_CROSSED;
    if (!(f->flags & (TR_FLAG_CHECKSUM | TR_FLAG_CHECKSUM_OKX)))
        return TR_FRAME_OK;
    const int is_right =
        (f->flags & TR_FLAG_CHECKSUM ? tr_live_crc_kraken(l) : tr_live_crc_okx(l)) == checksum;
    tr_count(l->outlet, is_right ? TR_COUNT_CHECKSUMS_OK : TR_COUNT_CHECKSUMS_BAD, 1);
    return is_right ? TR_FRAME_OK : TR_FRAME_CHECKSUM;
}

/* Publish the staged frame, then its BOOK record when one of the levels that it shows has changed. */
static int64_t close_frame(struct frame *f) {
    tr_live *l = f->live;
    tr_outlet *o = l->outlet;
    const int64_t records = o->staged;
    tr_count(o, TR_COUNT_LEVELS, f->n[0] + f->n[1]);
    const int64_t seq = tr_outlet_flush(o);
    if (seq < 0) {
        l->book_is_valid = 0;
        return TR_FRAME_NOT_PUBLISHED;
    }
    const int is_shown = l->tail->nearest[0] < TR_BOOK_DEPTH || l->tail->nearest[1] < TR_BOOK_DEPTH;
    if (seq > 0 && is_shown && (o->books || o->latest))
        tr_live_publish_book(l, seq + records - 1, f->ts_recv, 1);
    return TR_FRAME_OK;
}

static int64_t settle_time(tr_live *l, const char *time, int64_t bytes, int64_t ts_newest, int64_t ts_recv) {
    int64_t ts = ts_newest;
    if (bytes > 0 && tr_read_time(time, bytes, &ts))
        return TR_FRAME_NOT_A_NUMBER;
    if (ts == 0)
        ts = l->ts_event ? l->ts_event : ts_recv;
    l->ts_event = ts;
    if (ts > l->outlet->ts_event)
        l->outlet->ts_event = ts;
    return TR_FRAME_OK;
}

static int64_t run_frame(struct frame *f, const char *const text[2], const int64_t bytes[2],
                         const char *time, int64_t time_bytes, int64_t checksum) {
    tr_live *l = f->live;
    tr_outlet *o = l->outlet;
    const int is_snapshot = (f->flags & TR_FLAG_SNAPSHOT) != 0;
    int64_t ts_newest = f->ts_newest;
    l->book_frames++;
    if (!is_snapshot && !l->book_is_valid)
        return TR_FRAME_NO_SNAPSHOT;
    int64_t status = text ? scan_frame(f, text, bytes, &ts_newest) : TR_FRAME_OK;
    if (status == TR_FRAME_WIDER)
        return status;
    if (!status)
        status = settle_time(l, time, time_bytes, ts_newest, f->ts_recv);
    if (!status && !tr_outlet_reserve(o, f->n[0] + f->n[1] + 8))
        status = TR_FRAME_TOO_LARGE;
    if (status)
        return refuse(f, status);
    l->tail->nearest[0] = INT64_MAX;
    l->tail->nearest[1] = INT64_MAX;
    l->frame_no = is_snapshot ? 0 : l->frame_no + 1;
    status = is_snapshot ? load_snapshot(f) : apply_update(f);
    if (!status)
        status = check_frame(f, checksum);
    if (!status && is_snapshot) {
        if (!tr_live_stage_snapshot(l, f->ts_recv))
            return refuse(f, TR_FRAME_TOO_LARGE);
        l->state = TR_STATE_LIVE;
        l->book_is_valid = 1;
        tr_words(tr_stage(o, l, TR_KIND_STATE, 0, f->ts_recv), TR_STATE_LIVE, TR_REASON_SNAPSHOT, l->version,
                 l->frame_no);
    }
    if (status)
        return refuse(f, status);
    tr_live_stage_quote(l, f->ts_recv);
    return close_frame(f);
}

static int64_t end_frame(const struct frame *f, int64_t status) {
    if ((f->flags & TR_FLAG_ENDS_FRAME) && status >= 0)
        tr_count(f->live->outlet, status, 1);
    return status;
}

int64_t tr_live_levels(tr_live *l, int64_t flags, const char *bids, int64_t bids_bytes, const char *asks,
                       int64_t asks_bytes, const char *time, int64_t time_bytes, int64_t checksum,
                       int64_t ts_recv) {
    struct frame f = {.live = l, .flags = flags, .ts_recv = ts_recv};
    const char *const text[2] = {bids, asks};
    const int64_t bytes[2] = {bids_bytes, asks_bytes};
    return end_frame(&f, run_frame(&f, text, bytes, time, time_bytes, checksum));
}

int64_t tr_live_rows(tr_live *l, int64_t flags, const char *bids, int64_t bids_bytes, const char *asks,
                     int64_t asks_bytes, const char *time, int64_t time_bytes, int64_t checksum,
                     int64_t venue_seq, int64_t ts_recv) {
    struct frame f = {.live = l, .flags = flags, .ts_recv = ts_recv, .venue_seq = venue_seq, .is_rows = 1};
    const char *const text[2] = {bids, asks};
    const int64_t bytes[2] = {bids_bytes, asks_bytes};
    return end_frame(&f, run_frame(&f, text, bytes, time, time_bytes, checksum));
}

int64_t tr_live_read_rows(tr_live *l, int64_t flags, const int64_t n[2], int64_t ts_newest, const char *time,
                          int64_t time_bytes, int64_t venue_seq, int64_t ts_recv) {
    struct frame f = {.live = l, .flags = flags, .ts_recv = ts_recv, .venue_seq = venue_seq, .n = {n[0], n[1]}, .ts_newest = ts_newest};
    return end_frame(&f, run_frame(&f, NULL, NULL, time, time_bytes, 0));
}
