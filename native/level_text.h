/*
 * The JSON text of one side's levels becomes {price, qty} integers, all of it or none of it.
 *
 * Two row forms, told apart by their first byte:
 *     ["price","qty"]  ["price","qty","seconds"]  ["price","qty","seconds","r"]     numbers quoted or bare
 *     {"price":p,"qty":q}                                                           any order; other scalars are skipped
 * The caller has had the text checked as JSON; everything else is checked here, and nothing beyond `end` is read.
 *
 * A number that does not fit the scale makes the whole text TOO_MANY_DIGITS, but the scan goes on, so that `needed`
 * tells the scale that would hold them all.
 */
#ifndef TICKRING_LEVEL_TEXT_H
#define TICKRING_LEVEL_TEXT_H

#include "book.h"
#include "decimal.h"
#include "live_api.h"
#include "plain_text.h"
#include "timestamp.h"

struct tr_level_scan {
    int64_t scale[2];  /* price, qty; -1: not known yet, so the scan only measures */
    int64_t width[2];  /* decimals as written, the widest seen */
    int64_t needed[2]; /* decimals needed by numbers that do not fit the scale, the most seen */
    int64_t ts_newest; /* of the rows' own seconds, in ns; 0 where there are none */
    int64_t n;
    int64_t capacity; /* of `pairs` */
    struct tr_level_pair *pairs;
};

static inline const char *tr_skip_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* Step over `c` and the space around it; NULL when something else is there. */
static inline const char *tr_expect(const char *p, const char *end, char c) {
    if (p < end && *p == c)
        return p + 1;
    p = tr_skip_space(p, end);
    return p < end && *p == c ? p + 1 : NULL;
}

/* A number, quoted or bare. */
static inline int tr_read_number(const char **at, const char *end, struct tr_decimal *out) {
    const char *p = tr_skip_space(*at, end);
    if (p >= end || *p == '[' || *p == '{')
        return TR_FRAME_UNEXPECTED_SHAPE;
    const int quoted = *p == '"';
    const int status = tr_decimal_read(p + quoted, end, out, &p);
    if (status == TR_DECIMAL_NOT_A_NUMBER || (quoted && (p >= end || *p != '"')))
        return TR_FRAME_NOT_A_NUMBER;
    *at = p + quoted;
    return status == TR_DECIMAL_OK ? TR_FRAME_OK : TR_FRAME_TOO_MANY_DIGITS;
}

/* Step over a scalar that we do not know. */
static inline const char *tr_skip_scalar(const char *p, const char *end) {
    p = tr_skip_space(p, end);
    if (p < end && *p == '"')
        return tr_string_end(p + 1, end);
    if (p >= end || *p == '[' || *p == '{')
        return NULL;
    while (p < end && *p != ',' && *p != '}' && *p != ']')
        p++;
    return p;
}

/* The rest of a row after price and qty: [seconds [, "r"]], the marker of a republished level. */
static inline int tr_read_row_tail(const char **at, const char *end, int64_t *ts_newest) {
    const char *p = tr_skip_space(*at, end);
    if (p < end && *p == ',') {
        struct tr_decimal seconds;
        int64_t ts;
        p++;
        const int status = tr_read_number(&p, end, &seconds);
        if (status)
            return status == TR_FRAME_TOO_MANY_DIGITS ? TR_FRAME_NOT_A_NUMBER : status;
        if (tr_seconds_to_ns(&seconds, &ts))
            return TR_FRAME_NOT_A_NUMBER;
        *ts_newest = ts > *ts_newest ? ts : *ts_newest;
        p = tr_skip_space(p, end);
        if (p < end && *p == ',') {
            p = tr_skip_space(p + 1, end);
            if (end - p < 3 || memcmp(p, "\"r\"", 3) != 0)
                return TR_FRAME_UNEXPECTED_SHAPE;
            p += 3;
        }
    }
    *at = tr_expect(p, end, ']');
    return *at ? TR_FRAME_OK : TR_FRAME_UNEXPECTED_SHAPE;
}

static inline int tr_read_array_row(const char **at, const char *end, struct tr_decimal number[2],
                                    int too_many[2], int64_t *ts_newest) {
    for (int i = 0; i < 2; i++) {
        const int status = tr_read_number(at, end, &number[i]);
        too_many[i] = status == TR_FRAME_TOO_MANY_DIGITS;
        if (status && !too_many[i])
            return status;
        if (i == 0 && !(*at = tr_expect(*at, end, ',')))
            return TR_FRAME_UNEXPECTED_SHAPE;
    }
    return tr_read_row_tail(at, end, ts_newest);
}

static inline int tr_read_object_row(const char **at, const char *end, struct tr_decimal number[2],
                                     int too_many[2]) {
    int seen[2] = {0, 0};
    const char *p = *at;
    for (;;) {
        p = tr_expect(p, end, '"');
        if (!p)
            return TR_FRAME_UNEXPECTED_SHAPE;
        const char *key = p;
        while (p < end && *p != '"')
            p++;
        const int64_t key_bytes = p - key;
        p = p < end ? tr_expect(p + 1, end, ':') : NULL;
        if (!p)
            return TR_FRAME_UNEXPECTED_SHAPE;
        const int is_price = key_bytes == 5 && memcmp(key, "price", 5) == 0;
        if (is_price || (key_bytes == 3 && memcmp(key, "qty", 3) == 0)) {
            const int i = !is_price;
            const int status = tr_read_number(&p, end, &number[i]);
            seen[i] = 1;
            too_many[i] = status == TR_FRAME_TOO_MANY_DIGITS;
            if (status && !too_many[i])
                return status;
        } else if (!(p = tr_skip_scalar(p, end))) {
            return TR_FRAME_UNEXPECTED_SHAPE;
        }
        p = tr_skip_space(p, end);
        if (p < end && *p == ',') {
            p++;
            continue;
        }
        *at = tr_expect(p, end, '}');
        return *at && seen[0] && seen[1] ? TR_FRAME_OK : TR_FRAME_UNEXPECTED_SHAPE;
    }
}

/* Bring one number to the scan's scale, or note what scale it would need. */
static inline int tr_scan_number(struct tr_level_scan *scan, int which, const struct tr_decimal *number,
                                 int64_t *value) {
    if (number->width > scan->width[which])
        scan->width[which] = number->width;
    if (scan->scale[which] >= 0 && tr_decimal_at(number, scan->scale[which], value) == TR_DECIMAL_OK)
        return TR_FRAME_OK;
    const int64_t needed = tr_decimal_needed(number);
    if (needed > scan->needed[which])
        scan->needed[which] = needed;
    *value = number->mantissa;
    return TR_FRAME_TOO_MANY_DIGITS;
}

/* Read one side's array, appending to scan->pairs. */
static inline int tr_scan_levels(struct tr_level_scan *scan, const char *p, const char *end) {
    int result = TR_FRAME_OK;
    p = tr_expect(p, end, '[');
    if (!p)
        return TR_FRAME_UNEXPECTED_SHAPE;
    const char *close = tr_expect(p, end, ']');
    while (!close) {
        struct tr_decimal number[2];
        int too_many[2] = {0, 0};
        p = tr_skip_space(p, end);
        if (p >= end || (*p != '[' && *p != '{'))
            return TR_FRAME_UNEXPECTED_SHAPE;
        const int is_array = *p++ == '[';
        int status = is_array ? tr_read_array_row(&p, end, number, too_many, &scan->ts_newest)
                              : tr_read_object_row(&p, end, number, too_many);
        if (status)
            return status;
        if (scan->n == scan->capacity)
            return TR_FRAME_TOO_LARGE;
        struct tr_level_pair *pair = &scan->pairs[scan->n++];
        int64_t *values[2] = {&pair->price, &pair->qty};
        for (int i = 0; i < 2; i++) {
            status = too_many[i] ? TR_FRAME_TOO_MANY_DIGITS
                                 : tr_scan_number(scan, i, &number[i], values[i]);
            if (status)
                result = status;
        }
        if (!too_many[0] && !too_many[1] && (pair->price <= 0 || pair->qty < 0))
            return TR_FRAME_OUT_OF_RANGE;
        close = tr_expect(p, end, ']');
        if (!close && !(p = tr_expect(p, end, ',')))
            return TR_FRAME_UNEXPECTED_SHAPE;
    }
    return tr_skip_space(close, end) == end ? result : TR_FRAME_UNEXPECTED_SHAPE;
}

#endif
