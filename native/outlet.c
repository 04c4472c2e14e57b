/* An outlet and its instruments come and go, trades are staged and committed, records leave for the rings. */
#include <stdlib.h>

#include "decimal.h"
#include "level_text.h"
#include "live.h"
#include "ring_api.h"
#include "timestamp.h"

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

int64_t tr_outlet_flush(tr_outlet *o) {
    const int64_t n = o->staged;
    if (n == 0)
        return 0;
    o->staged = 0;
    o->records[n - 1].marks |= TR_MARK_LAST_IN_FRAME;
    const int64_t seq = tr_publish_batch(o->events, o->records, n);
    if (seq > 0)
        tr_count(o, TR_COUNT_RECORDS, n);
    return seq;
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
    const struct tr_level_pair *pairs = tr_book_side_read(l->book, side);
    const int64_t n = l->book_is_valid ? tr_book_count(l->book, side) : 0;
    const int64_t shown = n < TR_BOOK_DEPTH ? n : TR_BOOK_DEPTH;
    for (int64_t i = 0; i < shown; i++) {
        price[i] = pairs[n - 1 - i].price;
        qty[i] = pairs[n - 1 - i].qty;
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

/* ---- trades ---- */

/* One number that fills its whole text; TOO_MANY_DIGITS still tells in `needed` what scale it wants. */
static int64_t read_whole(const char *p, int64_t bytes, int64_t scale, int64_t *value, int64_t *width,
                          int64_t *needed) {
    const char *end = p + bytes;
    struct tr_decimal number = {0, 0, 0};
    const int status = tr_read_number(&p, end, &number);
    if (status)
        return status;
    if (tr_skip_space(p, end) != end)
        return TR_FRAME_NOT_A_NUMBER;
    *width = number.width;
    *needed = tr_decimal_needed(&number);
    if (scale < 0)
        return TR_FRAME_OK;
    return tr_decimal_at(&number, scale, value) ? TR_FRAME_TOO_MANY_DIGITS : TR_FRAME_OK;
}

static int stage_trade(tr_live *l, int64_t flags, const int64_t word[2], int64_t ts, int64_t trade_id,
                       int64_t side, int64_t ts_recv) {
    tr_outlet *o = l->outlet;
    if (o->trades_staged == o->trades_capacity) {
        const int64_t capacity = 2 * o->trades_capacity;
        struct tr_staged_trade *wider = realloc(o->trades, (size_t)capacity * sizeof *wider);
        if (!wider)
            return 0;
        o->trades = wider;
        o->trades_capacity = capacity;
    }
    if (!tr_outlet_reserve(o, 2))
        return 0;
    o->trades[o->trades_staged++] =
        (struct tr_staged_trade){l, l->last_trade_id, l->ts_event, l->state};
    l->ts_event = ts;
    if (!l->has_book && l->state != TR_STATE_LIVE) {
        l->state = TR_STATE_LIVE;
        tr_words(tr_stage(o, l, TR_KIND_STATE, 0, ts_recv), TR_STATE_LIVE, TR_REASON_SUBSCRIBED, l->version,
                 l->frame_no);
    }
    if (trade_id)
        l->last_trade_id = trade_id;
    const int marks = (side > 0 ? TR_MARK_BUY : side < 0 ? TR_MARK_SELL : 0) |
                      (flags & TR_FLAG_SNAPSHOT ? TR_MARK_SNAPSHOT : 0);
    tr_words(tr_stage(o, l, TR_KIND_TRADE, (uint8_t)marks, ts_recv), word[0], word[1], trade_id, 0);
    return 1;
}

/* A trade has more decimals than the version: the next one is to hold it. */
static void ask_for_wider(tr_live *l, const int64_t needed[2]) {
    int64_t *floor = l->tail->floor_scale;
    for (int i = 0; i < 2; i++)
        if (needed[i] > floor[i] && needed[i] <= TR_SCALE_MAX)
            floor[i] = needed[i];
    l->want_price_scale = floor[0] > l->price_scale ? floor[0] : l->price_scale;
    l->want_qty_scale = floor[1] > l->qty_scale ? floor[1] : l->qty_scale;
}

int64_t tr_live_trade(tr_live *l, int64_t flags, const char *price, int64_t price_bytes, const char *qty,
                      int64_t qty_bytes, const char *time, int64_t time_bytes, int64_t trade_id,
                      int64_t side, int64_t ts_recv) {
    const char *const text[2] = {price, qty};
    const int64_t bytes[2] = {price_bytes, qty_bytes};
    const int64_t scale[2] = {l->version ? l->price_scale : -1, l->version ? l->qty_scale : -1};
    int64_t word[2] = {0, 0};
    int64_t width[2];
    int64_t needed[2] = {0, 0};
    int64_t result = TR_FRAME_OK;
    int64_t ts;
    for (int i = 0; i < 2; i++) {
        const int64_t status = read_whole(text[i], bytes[i], scale[i], &word[i], &width[i], &needed[i]);
        result = status ? status : result;
        if (status && status != TR_FRAME_TOO_MANY_DIGITS)
            return status;
    }
    if (result) {
        ask_for_wider(l, needed);
        return result;
    }
    if (!l->version) {
        if (needed[0] > TR_SCALE_MAX || needed[1] > TR_SCALE_MAX)
            return TR_FRAME_TOO_MANY_DIGITS;
        l->want_price_scale = width[0] > TR_SCALE_MAX ? needed[0] : width[0];
        l->want_qty_scale = width[1] > TR_SCALE_MAX ? needed[1] : width[1];
        return TR_FRAME_WIDER;
    }
    if (word[0] <= 0 || word[1] <= 0)
        return TR_FRAME_OUT_OF_RANGE;
    if (tr_read_time(time, time_bytes, &ts))
        return TR_FRAME_NOT_A_NUMBER;
    if (trade_id && trade_id <= l->last_trade_id) {
        tr_count(l->outlet, TR_COUNT_TRADES_DUPLICATE, 1);
        return TR_FRAME_OK;
    }
    return stage_trade(l, flags, word, ts, trade_id, side, ts_recv) ? TR_FRAME_OK : TR_FRAME_TOO_LARGE;
}

int64_t tr_outlet_commit(tr_outlet *o) {
    const int64_t n = o->trades_staged;
    for (int64_t i = 0; i < n; i++)
        if (o->trades[i].live->ts_event > o->ts_event)
            o->ts_event = o->trades[i].live->ts_event;
    const int64_t seq = tr_outlet_flush(o);
    if (seq < 0) {
        tr_outlet_abandon(o);
        return TR_FRAME_NOT_PUBLISHED;
    }
    o->trades_staged = 0;
    tr_count(o, TR_COUNT_TRADES, n);
    return TR_FRAME_OK;
}

void tr_outlet_abandon(tr_outlet *o) {
    while (o->trades_staged > 0) {
        const struct tr_staged_trade *undo = &o->trades[--o->trades_staged];
        undo->live->last_trade_id = undo->previous_trade_id;
        undo->live->ts_event = undo->previous_ts_event;
        undo->live->state = undo->previous_state;
    }
    o->staged = 0;
}

/* ---- for tests and tools ---- */

int64_t tr_decimal_parse(const char *text, int64_t n, int64_t scale, int64_t *value) {
    int64_t width = 0;
    int64_t needed = 0;
    return read_whole(text, n, scale, value, &width, &needed);
}

int64_t tr_time_parse(const char *text, int64_t n) {
    int64_t ns;
    return tr_read_time(text, n, &ns) ? -1 : ns;
}

int64_t tr_decimal_format(int64_t value, char *out24) {
    return tr_decimal_write(out24, (uint64_t)value) - out24;
}
