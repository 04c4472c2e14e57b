/*
 * Rows of a form in one pass: held against their shape byte for byte and turned into {price, qty} at the book's scale.
 *
 * Shapes, each with its numbers quoted and plain ("12", "0.50"):
 *     ["price","qty"]                                                            Binance, one side an array
 *     ["buy","price","qty"]                                                      Coinbase Exchange, both sides
 *     {"side":"bid","event_time":"...","price_level":"p","new_quantity":"q"}     Coinbase Advanced Trade, both sides
 * Whatever is another shape, more digits than the scale or than 18, a price of 0 or more rows than there is room for makes
 * a reader return NULL: the text is then stepped over (native/plain_text.h) and scanned (native/row_text.h), which
 * judge it. So these readers may refuse what is right, and never take what those would refuse
 * (tests/test_collectors_forms.py).
 *
 * Cost  A number of up to eight digits a side of its dot is two loads and no branch on its length.
 */
#ifndef TICKRING_FORM_ROWS_H
#define TICKRING_FORM_ROWS_H

#include "form_text.h"
#include "row_text.h"
#include "timestamp.h"

struct tr_form_rows {
    int64_t scale[2]; /* of price and qty */
    struct tr_level_pair *pairs;
    int64_t capacity;
    int64_t n[2]; /* bids, then asks */
    int64_t ts_newest;
    int is_read; /* every row of the frame so far is in `pairs` */
};

/* Up to eight digits at `p`; how many, with their value. */
static inline int64_t tr_form_digits(const char *p, const char *end, uint64_t *value) {
    uint64_t chunk = 0;
    if (end - p >= 8)
        memcpy(&chunk, p, sizeof chunk);
    else
        memcpy(&chunk, p, (size_t)(end - p));
    chunk ^= TR_EACH_BYTE('0');
    /* The high bit of each byte above 9; the lowest one set is right, above it a carry may tell of one that is none. */
    const uint64_t stops = (chunk | (chunk + TR_EACH_BYTE(0x76))) & TR_EACH_BYTE(0x80);
    const int64_t n = stops ? __builtin_ctzll(stops) / 8 : 8;
    /* Zeros before the first digit instead of what stands behind the last; in two steps, since n may be 0. */
    *value = tr_value_of_eight(((chunk << (4 * (8 - n))) << (4 * (8 - n))) + TR_EACH_BYTE('0'));
    return n;
}

/* More digits of the same run, at most 16 in all. */
static inline int64_t tr_form_more_digits(const char *p, const char *end, uint64_t *value) {
    uint64_t more;
    const int64_t n = tr_form_digits(p, end, &more);
    *value = *value * (uint64_t)tr_power_of_ten[n] + more;
    return n;
}

/* digits[.digits] and the quote behind them, at `scale`. */
static inline const char *tr_form_number(const char *p, const char *end, int64_t scale, int64_t *out) {
    uint64_t whole, fraction = 0;
    int64_t decimals = 0;
    int64_t digits = tr_form_digits(p, end, &whole);
    if (digits == 8)
        digits += tr_form_more_digits(p + 8, end, &whole);
    if (digits == 0)
        return NULL;
    p += digits;
    if (p < end && *p == '.') {
        decimals = tr_form_digits(++p, end, &fraction);
        if (decimals == 8)
            decimals += tr_form_more_digits(p + 8, end, &fraction);
        if (decimals == 0)
            return NULL;
        p += decimals;
    }
    if (p >= end || *p != '"' || decimals > scale || digits + scale > TR_DIGITS_MAX)
        return NULL;
    *out = (int64_t)(whole * (uint64_t)tr_power_of_ten[scale] + fraction * (uint64_t)tr_power_of_ten[scale - decimals]);
    return p + 1;
}

static inline const char *tr_form_literal(const char *p, const char *end, const char *text, int64_t bytes) {
    return end - p >= bytes && tr_same_bytes(p, text, bytes) ? p + bytes : NULL;
}

#define TR_FORM_LITERAL(p, end, text) tr_form_literal(p, end, text, (int64_t)sizeof(text) - 1)

/* "price" `between` "qty", each behind its opening quote. */
static inline const char *tr_form_pair(const char *p, const char *end, const char *between, int64_t between_bytes,
                                       const struct tr_form_rows *rows, struct tr_level_pair *pair) {
    p = tr_form_number(p, end, rows->scale[0], &pair->price);
    if (!p || !(p = tr_form_literal(p, end, between, between_bytes)))
        return NULL;
    return pair->price > 0 ? tr_form_number(p, end, rows->scale[1], &pair->qty) : NULL;
}

/* [["price","qty"],...] of one side, also empty; bids before asks. */
static inline const char *tr_form_side(struct tr_form_rows *rows, const char *p, const char *end, int64_t side) {
    const int64_t s = tr_book_side_index(side);
    int64_t n = rows->n[0] + rows->n[1];
    const int64_t before = n;
    if (s == 0 && rows->n[1])
        return NULL;
    const char *empty = TR_FORM_LITERAL(p, end, "[]");
    if (empty)
        return empty;
    if (p >= end || *p++ != '[')
        return NULL;
    for (;; p++) {
        if (n == rows->capacity || !(p = TR_FORM_LITERAL(p, end, "[\"")) ||
            !(p = tr_form_pair(p, end, ",\"", 2, rows, &rows->pairs[n])) || p >= end || *p++ != ']' || p >= end)
            return NULL;
        n++;
        if (*p == ']')
            break;
        if (*p != ',')
            return NULL;
    }
    rows->n[s] += n - before;
    return p + 1;
}

/* The one level that a frame of its own names, into `pairs`; 0 where it does not fit. */
static inline int tr_form_level(const struct tr_form_match *m, struct tr_form_rows *rows) {
    const struct tr_span *const text[2] = {&m->price, &m->qty};
    int64_t value[2];
    for (int i = 0; i < 2; i++) {
        const char *p = text[i]->text;
        struct tr_decimal number;
        if (tr_read_number(&p, p + text[i]->bytes, &number) || tr_decimal_at(&number, rows->scale[i], &value[i]))
            return 0;
    }
    rows->n[tr_book_side_index(m->side)] = 1;
    rows->pairs[0] = (struct tr_level_pair){value[0], value[1]};
    rows->is_read = 1;
    return value[0] > 0 && value[1] >= 0;
}

/* The side that a word up to its quote names; *p is then behind the quote. 0: another word. */
static inline int64_t tr_form_side_word(const char **p, const char *end, const char *bid, int64_t bid_bytes, const char *ask,
                                        int64_t ask_bytes) {
    const char *past = tr_form_literal(*p, end, bid, bid_bytes);
    if (past) {
        *p = past;
        return TR_BID;
    }
    past = tr_form_literal(*p, end, ask, ask_bytes);
    if (!past)
        return 0;
    *p = past;
    return TR_ASK;
}

/* A row of both sides from its second byte on; *time is set where it tells one. */
static inline const char *tr_form_object(const struct tr_form_rows *rows, const char *p, const char *end,
                                         struct tr_level_pair *pair, int64_t *side, struct tr_span *time) {
    if (!(p = TR_FORM_LITERAL(p, end, "\"side\":\"")) || !(*side = tr_form_side_word(&p, end, "bid\"", 4, "offer\"", 6)) ||
        !(p = TR_FORM_LITERAL(p, end, ",\"event_time\":\"")))
        return NULL;
    time->text = p - 1;
    p = tr_plain_end(p, end);
    if (!(p = TR_FORM_LITERAL(p, end, "\",\"price_level\":\"")))
        return NULL;
    time->bytes = p - time->text - ((int64_t)sizeof ",\"price_level\":\"" - 1);
    p = tr_form_pair(p, end, ",\"new_quantity\":\"", 17, rows, pair);
    return p && p < end && *p == '}' ? p + 1 : NULL;
}

static inline const char *tr_form_array(const struct tr_form_rows *rows, const char *p, const char *end,
                                        struct tr_level_pair *pair, int64_t *side) {
    if (!(p = TR_FORM_LITERAL(p, end, "\"")) || !(*side = tr_form_side_word(&p, end, "buy\"", 4, "sell\"", 5)) ||
        !(p = TR_FORM_LITERAL(p, end, ",\"")))
        return NULL;
    p = tr_form_pair(p, end, ",\"", 2, rows, pair);
    return p && p < end && *p == ']' ? p + 1 : NULL;
}

/* [row,...] of both sides, not empty. */
static inline const char *tr_form_both_sides(struct tr_form_rows *rows, const char *p, const char *end) {
    struct tr_span time = {NULL, 0};
    int64_t *n = rows->n;
    if (end - p < 2 || *p++ != '[' || n[0] || n[1])
        return NULL;
    for (;; p++) {
        struct tr_level_pair pair;
        int64_t side = 0;
        if (end - p < 2 || n[0] + n[1] == rows->capacity)
            return NULL;
        p = *p == '{' ? tr_form_object(rows, p + 1, end, &pair, &side, &time)
                      : *p == '[' ? tr_form_array(rows, p + 1, end, &pair, &side) : NULL;
        if (!p || p >= end)
            return NULL;
        rows->pairs[side > 0 ? n[0]++ : rows->capacity - ++n[1]] = pair;
        if (*p == ']')
            break;
        if (*p != ',')
            return NULL;
    }
    tr_join_sides(rows->pairs, rows->capacity, n);
    return time.text && tr_read_time(time.text, time.bytes, &rows->ts_newest) ? NULL : p + 1;
}

#endif
