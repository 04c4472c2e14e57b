/* Trades from text to records: staged one by one, then published as one frame or forgotten. Invariants: native/live.h. */
#include <stdlib.h>

#include "decimal.h"
#include "level_text.h"
#include "live.h"
#include "timestamp.h"

/* One number that fills its whole text. Without a scale (-1), or when it does not fit, `needed` tells what it wants. */
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
    if (scale >= 0 && tr_decimal_at(&number, scale, value) == TR_DECIMAL_OK)
        return TR_FRAME_OK;
    *needed = tr_decimal_needed(&number);
    return scale < 0 ? TR_FRAME_OK : TR_FRAME_TOO_MANY_DIGITS;
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
    l->trades_seen++;
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
        l->outlet->repeats_staged++;
        return TR_FRAME_OK;
    }
    return stage_trade(l, flags, word, ts, trade_id, side, ts_recv) ? TR_FRAME_OK : TR_FRAME_TOO_LARGE;
}

/* "b" bought, "s" sold: the taker. 0 for anything else. */
static int64_t side_of_letter(const char *text, int64_t bytes) {
    if (bytes != 3 || text[0] != '"' || text[2] != '"')
        return 0;
    return text[1] == 'b' ? 1 : text[1] == 's' ? -1 : 0;
}

int64_t tr_live_trade_row(tr_live *l, int64_t flags, const char *row, int64_t bytes, int64_t ts_recv) {
    const char *end = row + bytes;
    const char *field[4];
    int64_t field_bytes[4];
    const char *p = tr_expect(row, end, '[');
    int n = 0;
    for (const char *close = NULL; !close; n++) {
        const char *start = p ? tr_skip_space(p, end) : NULL;
        p = start ? tr_skip_scalar(start, end) : NULL;
        if (!p)
            return TR_FRAME_UNEXPECTED_SHAPE;
        if (n < 4) {
            field[n] = start;
            field_bytes[n] = p - start;
        }
        close = tr_expect(p, end, ']');
        if (!close)
            p = tr_expect(p, end, ',');
    }
    const int64_t side = n < 4 ? 0 : side_of_letter(field[3], field_bytes[3]);
    if (side == 0)
        return TR_FRAME_UNEXPECTED_SHAPE;
    return tr_live_trade(l, flags, field[0], field_bytes[0], field[1], field_bytes[1], field[2],
                         field_bytes[2], 0, side, ts_recv);
}

static int64_t commit(tr_outlet *o) {
    const int64_t n = o->trades_staged;
    for (int64_t i = 0; i < n; i++)
        if (o->trades[i].live->ts_event > o->ts_event)
            o->ts_event = o->trades[i].live->ts_event;
    const int64_t seq = tr_outlet_flush(o);
    if (seq < 0) {
        tr_outlet_abandon(o);
        return TR_FRAME_NOT_PUBLISHED;
    }
    o->trades_staged = o->repeats_staged = 0;
    tr_count(o, TR_COUNT_TRADES, n);
    return TR_FRAME_OK;
}

int64_t tr_outlet_commit(tr_outlet *o, int64_t flags) {
    const int64_t status = commit(o);
    if (flags & TR_FLAG_ENDS_FRAME)
        tr_count(o, status, 1);
    return status;
}

void tr_outlet_abandon(tr_outlet *o) {
    while (o->trades_staged > 0) {
        const struct tr_staged_trade *undo = &o->trades[--o->trades_staged];
        undo->live->last_trade_id = undo->previous_trade_id;
        undo->live->ts_event = undo->previous_ts_event;
        undo->live->state = undo->previous_state;
    }
    tr_count(o, TR_COUNT_TRADES_DUPLICATE, -o->repeats_staged);
    o->staged = o->repeats_staged = 0;
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
