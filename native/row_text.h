/*
 * Level rows as most venues write them become {price, qty} integers, all of a frame or none of it.
 *
 * Row forms, told apart by their bytes; numbers quoted or bare; what else a row holds is stepped over
 *     ["price","qty", ...]                     Binance, OKX, Bybit, Bitstamp
 *     ["new", price, qty]                      Deribit: "delete" makes the quantity 0
 *     ["buy","price","qty"]                    Coinbase Exchange: the row names its side
 *     {"side":"bid","event_time":"...","price_level":"p","new_quantity":"q"}     Coinbase Advanced Trade
 *     {"side":"buy","price":p,"qty":q, ...}    Kraken futures
 * A new form is a new line of `row_words` or `row_keys`. The caller has had the text checked as JSON; everything else
 * is checked here, and nothing beyond `end` is read. Rows of both sides in one array are gathered from both ends of
 * the scratch, bids first when done.
 */
#ifndef TICKRING_ROW_TEXT_H
#define TICKRING_ROW_TEXT_H

#include "level_text.h"

/* Words in rows; `text` is padded with zeros to eight bytes and compared as one integer. */
static const struct tr_row_word {
    char text[8];
    int8_t side;
    int8_t deletes;
} tr_row_words[] = {
    {"buy", TR_BID, 0}, {"sell", TR_ASK, 0}, {"bid", TR_BID, 0}, {"offer", TR_ASK, 0},
    {"ask", TR_ASK, 0}, {"new", 0, 0},       {"change", 0, 0},   {"delete", 0, 1},
};

enum tr_row_field { TR_ROW_PRICE, TR_ROW_QTY, TR_ROW_SIDE, TR_ROW_TIME };

static const struct tr_row_key {
    char text[16];
    int64_t bytes;
    enum tr_row_field field;
} tr_row_keys[] = {
    {"side", 4, TR_ROW_SIDE},  {"event_time", 10, TR_ROW_TIME}, {"price_level", 11, TR_ROW_PRICE},
    {"new_quantity", 12, TR_ROW_QTY}, {"price", 5, TR_ROW_PRICE}, {"qty", 3, TR_ROW_QTY},
};

struct tr_row {
    struct tr_decimal number[2];
    int too_many[2];
    int seen[2];
    int64_t side; /* 0: the row does not say */
    int deletes;
};

struct tr_row_scan {
    struct tr_level_scan level;
    const char *time; /* of the last row that tells one, NULL where none does */
    const char *time_end;
    int has_zeros[2]; /* a price, a quantity was written with a last decimal 0 */
};

/* A quoted word of the table at *at. */
static inline const struct tr_row_word *tr_read_word(const char **at, const char *end) {
    const char *p = *at + 1;
    uint64_t word = 0;
    for (int shift = 0; p < end && *p != '"'; p++, shift += 8) {
        if (shift == 64)
            return NULL;
        word |= (uint64_t)(unsigned char)*p << shift;
    }
    for (size_t i = 0; p < end && i < sizeof tr_row_words / sizeof *tr_row_words; i++) {
        uint64_t known;
        memcpy(&known, tr_row_words[i].text, sizeof known);
        if (known == word) {
            *at = p + 1;
            return &tr_row_words[i];
        }
    }
    return NULL;
}

static inline int tr_read_row_number(const char **at, const char *end, struct tr_row *row, int which) {
    const int status = tr_read_number(at, end, &row->number[which]);
    row->too_many[which] = status == TR_FRAME_TOO_MANY_DIGITS;
    row->seen[which] = 1;
    return row->too_many[which] ? TR_FRAME_OK : status;
}

/* Step over one value that the row has beyond what is read: a scalar, or an empty array. */
static inline const char *tr_skip_extra(const char *p, const char *end) {
    const char *inner = tr_expect(p, end, '[');
    return inner ? tr_expect(inner, end, ']') : tr_skip_scalar(p, end);
}

static inline int tr_read_row_array(const char **at, const char *end, struct tr_row *row) {
    const char *p = tr_skip_space(*at, end);
    if (end - p > 1 && *p == '"' && (unsigned char)((p[1] | 0x20) - 'a') < 26) {
        const struct tr_row_word *word = tr_read_word(&p, end);
        if (!word || !(p = tr_expect(p, end, ',')))
            return TR_FRAME_UNEXPECTED_SHAPE;
        row->side = word->side;
        row->deletes = word->deletes;
    }
    for (int i = 0; i < 2; i++) {
        const int status = tr_read_row_number(&p, end, row, i);
        if (status)
            return status;
        if (i == 0 && !(p = tr_expect(p, end, ',')))
            return TR_FRAME_UNEXPECTED_SHAPE;
    }
    while (!(*at = tr_expect(p, end, ']')))
        if (!(p = tr_expect(p, end, ',')) || !(p = tr_skip_extra(p, end)))
            return TR_FRAME_UNEXPECTED_SHAPE;
    return TR_FRAME_OK;
}

static inline int tr_read_row_value(const char **at, const char *end, struct tr_row_scan *scan,
                                    struct tr_row *row, enum tr_row_field field) {
    const char *p = tr_skip_space(*at, end);
    if (field == TR_ROW_PRICE || field == TR_ROW_QTY)
        return row->seen[field] ? TR_FRAME_UNEXPECTED_SHAPE : tr_read_row_number(at, end, row, (int)field);
    if (field == TR_ROW_SIDE) {
        const struct tr_row_word *word = p < end && *p == '"' ? tr_read_word(&p, end) : NULL;
        if (!word || !word->side || row->side)
            return TR_FRAME_UNEXPECTED_SHAPE;
        row->side = word->side;
        *at = p;
        return TR_FRAME_OK;
    }
    scan->time = p;
    *at = scan->time_end = tr_skip_scalar(p, end);
    return *at ? TR_FRAME_OK : TR_FRAME_UNEXPECTED_SHAPE;
}

static inline int tr_read_row_object(const char **at, const char *end, struct tr_row_scan *scan,
                                     struct tr_row *row) {
    const char *p = *at;
    do {
        if (!(p = tr_expect(p, end, '"')))
            return TR_FRAME_UNEXPECTED_SHAPE;
        const char *name = p;
        if (!(p = tr_string_end(p, end)))
            return TR_FRAME_UNEXPECTED_SHAPE;
        const int64_t bytes = p - name - 1;
        if (!(p = tr_expect(p, end, ':')))
            return TR_FRAME_UNEXPECTED_SHAPE;
        const struct tr_row_key *key = tr_row_keys;
        const struct tr_row_key *past = tr_row_keys + sizeof tr_row_keys / sizeof *tr_row_keys;
        while (key < past && (key->bytes != bytes || !tr_same_bytes(key->text, name, bytes)))
            key++;
        if (key < past) {
            const int status = tr_read_row_value(&p, end, scan, row, key->field);
            if (status)
                return status;
        } else if (!(p = tr_skip_scalar(p, end))) {
            return TR_FRAME_UNEXPECTED_SHAPE;
        }
        *at = tr_expect(p, end, '}');
    } while (!*at && (p = tr_expect(p, end, ',')));
    return *at && row->seen[0] && row->seen[1] ? TR_FRAME_OK : TR_FRAME_UNEXPECTED_SHAPE;
}

/* A row's numbers at the scan's scale, into *pair. */
static inline int tr_settle_row(struct tr_row_scan *scan, struct tr_row *row, struct tr_level_pair *pair) {
    int64_t *values[2] = {&pair->price, &pair->qty};
    int result = TR_FRAME_OK;
    if (row->deletes) {
        row->number[1] = (struct tr_decimal){0, 0, row->number[1].width};
        row->too_many[1] = 0;
    }
    for (int i = 0; i < 2; i++) {
        const struct tr_decimal *d = &row->number[i];
        const int status = row->too_many[i] ? TR_FRAME_TOO_MANY_DIGITS
                                            : tr_scan_number(&scan->level, i, d, values[i]);
        scan->has_zeros[i] |= d->decimals > 0 && d->mantissa % 10 == 0;
        result = status ? status : result;
    }
    if (!row->too_many[0] && !row->too_many[1] && (pair->price <= 0 || pair->qty < 0))
        return TR_FRAME_OUT_OF_RANGE;
    return result;
}

/* Rows of both sides, gathered from both ends of the scratch: the asks behind the bids, in their order. */
static inline void tr_join_sides(struct tr_level_pair *pairs, int64_t capacity, const int64_t n[2]) {
    for (int64_t low = capacity - n[1], high = capacity - 1; low < high; low++, high--) {
        const struct tr_level_pair pair = pairs[low];
        pairs[low] = pairs[high];
        pairs[high] = pair;
    }
    memmove(pairs + n[0], pairs + capacity - n[1], (size_t)n[1] * sizeof *pairs);
}

/* Read an array of rows, appending to the scratch: n[0] bids, then n[1] asks. `side` 0: each row names its own. */
static inline int tr_scan_rows(struct tr_row_scan *scan, const char *p, const char *end, int64_t side, int64_t n[2]) {
    struct tr_level_pair *pairs = scan->level.pairs;
    const int64_t capacity = scan->level.capacity;
    int result = TR_FRAME_OK;
    if (!(p = tr_expect(p, end, '[')))
        return TR_FRAME_UNEXPECTED_SHAPE;
    const char *close = tr_expect(p, end, ']');
    while (!close) {
        struct tr_row row = {.side = side};
        p = tr_skip_space(p, end);
        if (p >= end || (*p != '[' && *p != '{'))
            return TR_FRAME_UNEXPECTED_SHAPE;
        const int is_array = *p++ == '[';
        int status = is_array ? tr_read_row_array(&p, end, &row) : tr_read_row_object(&p, end, scan, &row);
        if (status)
            return status;
        if (side)
            row.side = side;
        else if (!row.side)
            return TR_FRAME_UNEXPECTED_SHAPE;
        if (scan->level.n == capacity)
            return TR_FRAME_TOO_LARGE;
        const int64_t s = tr_book_side_index(row.side);
        /* Of two sides in one array the asks grow down from the end of the scratch. */
        const int64_t at = side ? scan->level.n : s ? capacity - 1 - n[1] : n[0];
        status = tr_settle_row(scan, &row, &pairs[at]);
        if (status && status != TR_FRAME_TOO_MANY_DIGITS)
            return status;
        result = status ? status : result;
        scan->level.n++;
        n[s]++;
        close = tr_expect(p, end, ']');
        if (!close && !(p = tr_expect(p, end, ',')))
            return TR_FRAME_UNEXPECTED_SHAPE;
    }
    if (!side)
        tr_join_sides(pairs, capacity, n);
    return tr_skip_space(close, end) == end ? result : TR_FRAME_UNEXPECTED_SHAPE;
}

#endif
