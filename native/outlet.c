/* An outlet and its instruments come and go, and records leave for the rings. */
#include <stdlib.h>

#include "live.h"
#include "ring_api.h"

#define FIRST_RECORDS 256
#define FIRST_TRADES 64
#define FIRST_CAPACITY 16 /* levels a side; the first snapshot makes the book as large as it needs */

/* ---- outlets ---- */

tr_outlet *tr_outlet_new(tr_producer *events, tr_producer *books, tr_producer *latest, int64_t **counts,
                         int64_t max_levels) {
    tr_outlet *o = calloc(1, sizeof *o);
    if (!o)
        return NULL;
    o->events = events;
    o->books = books;
    o->latest = latest;
    o->max_levels = max_levels;
    o->took.least_behind_ns = INT64_MAX;
    memcpy(o->counts, counts, sizeof o->counts);
    o->pairs = malloc((size_t)max_levels * sizeof *o->pairs);
    o->trades = malloc(FIRST_TRADES * sizeof *o->trades);
    o->trades_capacity = FIRST_TRADES;
    if (!o->pairs || !o->trades || !tr_outlet_reserve(o, FIRST_RECORDS)) {
        tr_outlet_free(o);
        return NULL;
    }
    return o;
}

void tr_outlet_free(tr_outlet *o) {
    if (!o)
        return;
    free(o->pairs);
    free(o->cut_prices);
    free(o->records);
    free(o->trades);
    free(o);
}

int tr_outlet_reserve(tr_outlet *o, int64_t n) {
    const int64_t needed = o->staged + n;
    if (needed <= o->records_capacity)
        return 1;
    int64_t capacity = o->records_capacity ? o->records_capacity : FIRST_RECORDS;
    while (capacity < needed)
        capacity *= 2;
    struct tr_event *wider = realloc(o->records, (size_t)capacity * sizeof *wider);
    if (!wider)
        return 0;
    o->records = wider;
    o->records_capacity = capacity;
    return 1;
}

/* The last record of a frame tells both; a ts_event that is ts_recv itself is no word of the venue. */
static void measure(tr_took *t, const struct tr_event *last) {
    const int64_t took = last->publish_delta_ns;
    const int64_t behind = last->ts_recv - last->ts_event;
    const int above = took < 1024 ? 0 : 54 - __builtin_clzll((uint64_t)took);
    t->frames++;
    t->sum_ns += took;
    t->longest_ns = took > t->longest_ns ? took : t->longest_ns;
    t->counts[above < TR_TOOK_COUNTS ? above : TR_TOOK_COUNTS - 1]++;
    if (behind != 0 && behind < t->least_behind_ns)
        t->least_behind_ns = behind;
}

int64_t tr_outlet_flush(tr_outlet *o) {
    const int64_t n = o->staged;
    if (n == 0)
        return 0;
    o->staged = 0;
    o->records[n - 1].marks |= TR_MARK_LAST_IN_FRAME;
    const int64_t seq = tr_publish_batch(o->events, o->records, n);
    if (seq > 0)
        tr_count(o, TR_COUNT_RECORDS, n);
    measure(&o->took, &o->records[n - 1]);
    return seq;
}

void tr_outlet_take_took(tr_outlet *o, tr_took *out) {
    *out = o->took;
    o->took = (tr_took){.least_behind_ns = INT64_MAX};
}

int64_t tr_outlet_gap(tr_outlet *o, int64_t reason, int64_t frames_lost, int64_t ts_recv) {
    const tr_live nobody = {.ts_event = o->ts_event ? o->ts_event : ts_recv};
    tr_words(tr_stage(o, &nobody, TR_KIND_GAP, 0, ts_recv), 0, 0, frames_lost, reason);
    tr_count(o, TR_COUNT_GAPS + reason, 1);
    return tr_outlet_flush(o) < 0 ? TR_FRAME_NOT_PUBLISHED : TR_FRAME_OK;
}

void tr_outlet_count(tr_outlet *o, int64_t status) { tr_count(o, status, 1); }

/* ---- instruments ---- */

tr_live *tr_live_new(tr_outlet *o, int64_t instrument_id, int64_t depth, int64_t latest_index) {
    tr_live *l = calloc(1, sizeof *l);
    struct tr_live_tail *tail = calloc(1, sizeof *tail);
    void *book = malloc((size_t)tr_book_bytes(FIRST_CAPACITY));
    if (!l || !tail || !book) {
        free(l);
        free(tail);
        free(book);
        return NULL;
    }
    tr_book_init(book, FIRST_CAPACITY);
    l->instrument_id = instrument_id;
    l->state = TR_STATE_SYNCING;
    l->depth = depth;
    l->book = book;
    l->outlet = o;
    l->tail = tail;
    tail->latest_index = latest_index;
    return l;
}

void tr_live_free(tr_live *l) {
    if (!l)
        return;
    free(l->book);
    free(l->tail);
    free(l);
}

void tr_live_set_depth(tr_live *l, int64_t depth) {
    l->depth = depth;
    l->has_book = 1;
    if (l->state == TR_STATE_LIVE && !l->book_is_valid)
        l->state = TR_STATE_SYNCING; /* trades alone had made it LIVE */
}

void tr_live_set_version(tr_live *l, int64_t version, int64_t price_scale, int64_t qty_scale) {
    l->version = version;
    l->price_scale = price_scale;
    l->qty_scale = qty_scale;
    l->book_is_valid = 0; /* its integers have the old scale; only a snapshot makes it good */
    memset(l->tail->top, 0, sizeof l->tail->top);
}

static void copy_side(const tr_live *l, int64_t side, int64_t *price, int64_t *qty, uint32_t *levels) {
    const struct tr_level_pair *best = tr_book_best(l->book, side);
    const int64_t n = l->book_is_valid ? tr_book_count(l->book, side) : 0;
    const int64_t shown = n < TR_BOOK_DEPTH ? n : TR_BOOK_DEPTH;
    for (int64_t i = 0; i < shown; i++) {
        price[i] = best[-i].price;
        qty[i] = best[-i].qty;
    }
    for (int64_t i = shown; i < TR_BOOK_DEPTH; i++) {
        price[i] = 0;
        qty[i] = 0;
    }
    *levels = (uint32_t)shown;
}

void tr_live_publish_book(tr_live *l, int64_t event_seq, int64_t ts_recv, int to_ring) {
    tr_outlet *o = l->outlet;
    struct tr_book *b = &o->book_record;
    b->ts_event = l->ts_event;
    b->ts_recv = ts_recv;
    b->instrument_id = (uint16_t)l->instrument_id;
    b->kind = TR_KIND_BOOK;
    b->marks = (uint8_t)(l->state | TR_MARK_LAST_IN_FRAME);
    b->event_epoch = o->events->data->epoch;
    b->event_seq = event_seq;
    b->instrument_version = l->version;
    copy_side(l, TR_BID, b->bid_price, b->bid_qty, &b->bid_levels);
    copy_side(l, TR_ASK, b->ask_price, b->ask_qty, &b->ask_levels);
    if (to_ring && o->books && tr_publish(o->books, b) > 0)
        tr_count(o, TR_COUNT_BOOKS, 1);
    if (o->latest)
        tr_latest_store(o->latest, l->tail->latest_index, b);
}
