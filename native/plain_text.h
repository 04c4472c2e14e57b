/*
 * JSON of the plainest kind, stepped over byte by byte: what passes here is valid JSON, and what does not may be.
 *
 * Plain are strings of printable ASCII without quote and backslash, numbers without exponent, rows of these, and no
 * space anywhere. Every function returns one past what it stepped over, or NULL; nothing at or beyond `end` is read.
 */
#ifndef TICKRING_PLAIN_TEXT_H
#define TICKRING_PLAIN_TEXT_H

#include "decimal.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define TR_EACH_BYTE(c) (UINT64_C(0x0101010101010101) * (c))

/* The high bit of each byte that is none of a plain string. The lowest bit set is right; above it a borrow may tell
   of one that is none. */
static inline uint64_t tr_not_plain(uint64_t chunk) {
    const uint64_t quote = chunk ^ TR_EACH_BYTE('"');
    const uint64_t backslash = chunk ^ TR_EACH_BYTE('\\');
    const uint64_t found = (chunk - TR_EACH_BYTE(0x20)) | (quote - TR_EACH_BYTE(1)) |
                           (backslash - TR_EACH_BYTE(1)) | (chunk + TR_EACH_BYTE(1)) | chunk;
    return found & TR_EACH_BYTE(0x80);
}

static inline int tr_is_plain(char c) { return c >= 0x20 && c < 0x7f && c != '"' && c != '\\'; }

/* The first byte from `p` on that no plain string holds. */
static inline const char *tr_plain_end(const char *p, const char *end) {
#ifdef __SSE2__
    while (end - p >= 16) {
        const __m128i chunk = _mm_loadu_si128((const __m128i *)(const void *)p);
        const __m128i quote = _mm_cmpeq_epi8(chunk, _mm_set1_epi8('"'));
        const __m128i backslash = _mm_cmpeq_epi8(chunk, _mm_set1_epi8('\\'));
        const __m128i delete = _mm_cmpeq_epi8(chunk, _mm_set1_epi8(0x7f));
        const __m128i low = _mm_cmplt_epi8(chunk, _mm_set1_epi8(0x20)); /* signed: beyond ASCII as well */
        const __m128i stop = _mm_or_si128(_mm_or_si128(quote, backslash), _mm_or_si128(delete, low));
        const int stops = _mm_movemask_epi8(stop);
        if (stops)
            return p + __builtin_ctz((unsigned)stops);
        p += 16;
    }
#endif
    while (end - p >= 8) {
        uint64_t chunk;
        memcpy(&chunk, p, sizeof chunk);
        const uint64_t stops = tr_not_plain(chunk);
        if (stops)
            return p + __builtin_ctzll(stops) / 8;
        p += 8;
    }
    while (p < end && tr_is_plain(*p))
        p++;
    return p;
}

/* One past the quote that ends the string whose text begins at `p`; NULL where none does. Whatever it holds. */
static inline const char *tr_string_end(const char *p, const char *end) {
    for (;;) {
        p = tr_plain_end(p, end);
        if (p >= end)
            return NULL;
        if (*p == '"')
            return p + 1;
        if (*p == '\\' && ++p >= end)
            return NULL;
        p++;
    }
}

/* Whether `n` bytes are the same. */
static inline int tr_same_bytes(const char *a, const char *b, int64_t n) {
    uint64_t x[2], y[2];
    if (n < 8)
        return memcmp(a, b, (size_t)n) == 0;
    for (; n > 16; a += 8, b += 8, n -= 8) {
        memcpy(x, a, 8);
        memcpy(y, b, 8);
        if (x[0] != y[0])
            return 0;
    }
    memcpy(&x[0], a, 8);
    memcpy(&y[0], b, 8);
    memcpy(&x[1], a + n - 8, 8);
    memcpy(&y[1], b + n - 8, 8);
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

/* "..." */
static inline const char *tr_plain_string(const char *p, const char *end) {
    if (p >= end || *p != '"')
        return NULL;
    p = tr_plain_end(p + 1, end);
    return p < end && *p == '"' ? p + 1 : NULL;
}

/* 0 or 17 or -3.50 */
static inline const char *tr_plain_number(const char *p, const char *end) {
    p += p < end && *p == '-';
    const char *first = p;
    while (p < end && tr_is_digit(*p))
        p++;
    if (p == first || (*first == '0' && p - first > 1))
        return NULL;
    if (p < end && *p == '.') {
        const char *dot = p++;
        while (p < end && tr_is_digit(*p))
            p++;
        if (p - dot == 1)
            return NULL;
    }
    return p;
}

static inline const char *tr_plain_scalar(const char *p, const char *end) {
    return p < end && *p == '"' ? tr_plain_string(p, end) : tr_plain_number(p, end);
}

/* [scalar,...] or {"key":scalar,...}, not empty */
static inline const char *tr_plain_row(const char *p, const char *end) {
    if (p >= end || (*p != '[' && *p != '{'))
        return NULL;
    const int is_object = *p++ == '{';
    const char close = is_object ? '}' : ']';
    for (;; p++) {
        if (is_object && (!(p = tr_plain_string(p, end)) || p >= end || *p++ != ':'))
            return NULL;
        p = tr_plain_scalar(p, end);
        if (!p || p >= end || (*p != ',' && *p != close))
            return NULL;
        if (*p == close)
            return p + 1;
    }
}

/* [row,...], also empty */
static inline const char *tr_plain_rows(const char *p, const char *end) {
    if (end - p < 2 || *p++ != '[')
        return NULL;
    if (*p == ']')
        return p + 1;
    for (;; p++) {
        p = tr_plain_row(p, end);
        if (!p || p >= end || (*p != ',' && *p != ']'))
            return NULL;
        if (*p == ']')
            return p + 1;
    }
}

#endif
