/*
 * Digits become integers exactly, or are refused with the reason: no float, no rounding, no silent loss.
 *
 * A number is read as mantissa x 10^-decimals; tr_decimal_at brings it to an instrument's scale. Accepted is what
 * JSON accepts as a number, and in quotes also leading zeros and a leading or trailing dot ("007", ".5", "5.").
 * At most 18 significant digits: every such integer fits int64. Zeros after the last non-zero decimal never count.
 *
 * Cost  Eight digits at a time by three multiplications (SWAR); an exponent or more than 18 digits leave the fast path.
 */
#ifndef TICKRING_DECIMAL_H
#define TICKRING_DECIMAL_H

#include <stdint.h>
#include <string.h>

#define TR_SCALE_MAX 18
#define TR_DIGITS_MAX 18

/* Outcomes of reading; 0 is success. */
enum tr_decimal_status {
    TR_DECIMAL_OK = 0,
    TR_DECIMAL_NOT_A_NUMBER = 1,
    TR_DECIMAL_TOO_MANY_DIGITS = 2
};

struct tr_decimal {
    int64_t mantissa;
    int32_t decimals; /* value = mantissa x 10^-decimals; < 0 only after an exponent */
    int32_t width;    /* decimals as written, zeros included; equals decimals but for an exponent or excess zeros */
};

static const int64_t tr_power_of_ten[TR_SCALE_MAX + 1] = {
    INT64_C(1),
    INT64_C(10),
    INT64_C(100),
    INT64_C(1000),
    INT64_C(10000),
    INT64_C(100000),
    INT64_C(1000000),
    INT64_C(10000000),
    INT64_C(100000000),
    INT64_C(1000000000),
    INT64_C(10000000000),
    INT64_C(100000000000),
    INT64_C(1000000000000),
    INT64_C(10000000000000),
    INT64_C(100000000000000),
    INT64_C(1000000000000000),
    INT64_C(10000000000000000),
    INT64_C(100000000000000000),
    INT64_C(1000000000000000000),
};

static inline int tr_is_digit(char c) { return (unsigned char)(c - '0') < 10; }

/* Whether eight bytes are all ASCII digits: each byte's high nibble is 3, also after adding 6. */
static inline int tr_eight_digits(uint64_t chunk) {
    return ((chunk & UINT64_C(0xF0F0F0F0F0F0F0F0)) |
            (((chunk + UINT64_C(0x0606060606060606)) & UINT64_C(0xF0F0F0F0F0F0F0F0)) >> 4)) ==
           UINT64_C(0x3333333333333333);
}

/* Value of eight ASCII digits, the first in the lowest byte: pairs, then fours, then all. */
static inline uint64_t tr_value_of_eight(uint64_t chunk) {
    chunk -= UINT64_C(0x3030303030303030);
    chunk = chunk * 10 + (chunk >> 8);
    const uint64_t pairs = UINT64_C(0x000000FF000000FF);
    const uint64_t high = (chunk & pairs) * (UINT64_C(100) + (UINT64_C(1000000) << 32));
    const uint64_t low = ((chunk >> 16) & pairs) * (UINT64_C(1) + (UINT64_C(10000) << 32));
    return (high + low) >> 32;
}

/* Append the digits at `p` to *value (modulo 2^64: the caller counts them); returns the first byte that is none. */
static inline const char *tr_digits(const char *p, const char *end, uint64_t *value) {
    uint64_t v = *value;
    while (end - p >= 8) {
        uint64_t chunk;
        memcpy(&chunk, p, 8);
        if (!tr_eight_digits(chunk))
            break;
        v = v * UINT64_C(100000000) + tr_value_of_eight(chunk);
        p += 8;
    }
    while (p < end && tr_is_digit(*p))
        v = v * 10 + (uint64_t)(*p++ - '0');
    *value = v;
    return p;
}

/* The slow path's exponent: [+-]digits, at most 4 of them that count. NULL where there is none to read. */
static inline const char *tr_exponent(const char *p, const char *end, int32_t *exponent) {
    int negative = 0;
    int32_t value = 0;
    if (p < end && (*p == '+' || *p == '-'))
        negative = *p++ == '-';
    const char *first = p;
    for (; p < end && tr_is_digit(*p); p++)
        value = value < 10000 ? value * 10 + (*p - '0') : value;
    *exponent = negative ? -value : value;
    return p == first ? NULL : p;
}

/* More than 18 digits or an exponent: drop zeros that do not count, then see whether 18 digits are left. */
__attribute__((noinline, cold)) static int tr_decimal_read_slow(const char *whole, const char *dot,
                                                                const char *last, int32_t exponent,
                                                                struct tr_decimal *out) {
    uint64_t value = 0;
    int64_t digits = 0;
    int32_t decimals = -exponent;
    const char *stop = last; /* one past the last digit that counts */
    if (dot)
        while (stop > dot + 1 && stop[-1] == '0')
            stop--;
    for (const char *p = whole; p < stop; p++) {
        if (p == dot)
            continue;
        if (digits || *p != '0')
            digits++;
        if (digits > TR_DIGITS_MAX)
            return TR_DECIMAL_TOO_MANY_DIGITS;
        value = value * 10 + (uint64_t)(*p - '0');
        decimals += dot && p > dot;
    }
    out->mantissa = (int64_t)value;
    out->decimals = value ? decimals : 0;
    out->width = out->decimals > 0 ? out->decimals : 0;
    return TR_DECIMAL_OK;
}

/* Read the number at `p`; *next is the first byte after it. */
static inline int tr_decimal_read(const char *p, const char *end, struct tr_decimal *out,
                                  const char **next) {
    const int negative = p < end && *p == '-';
    p += negative;
    const char *whole = p;
    const char *dot = NULL;
    uint64_t value = 0;
    p = tr_digits(p, end, &value);
    const char *last = p;
    int64_t digits = p - whole;
    if (p < end && *p == '.') {
        dot = p;
        p = tr_digits(p + 1, end, &value);
        last = p;
        digits += p - dot - 1;
    }
    *next = p;
    if (digits == 0)
        return TR_DECIMAL_NOT_A_NUMBER;
    int32_t exponent = 0;
    int status = TR_DECIMAL_OK;
    const int scientific = p < end && (*p == 'e' || *p == 'E');
    if (scientific) {
        p = tr_exponent(p + 1, end, &exponent);
        if (!p)
            return TR_DECIMAL_NOT_A_NUMBER;
        *next = p;
    }
    if (scientific || digits > TR_DIGITS_MAX) {
        status = tr_decimal_read_slow(whole, dot, last, exponent, out);
    } else {
        out->mantissa = (int64_t)value;
        out->decimals = dot ? (int32_t)(last - dot - 1) : 0;
        out->width = out->decimals;
    }
    if (negative)
        out->mantissa = -out->mantissa;
    return status;
}

/* Bring a number to `scale` decimals: exact, or refused when non-zero digits or more than 18 digits would be needed. */
static inline int tr_decimal_at(const struct tr_decimal *d, int64_t scale, int64_t *out) {
    const int64_t up = scale - d->decimals;
    if (up == 0) {
        *out = d->mantissa;
        return TR_DECIMAL_OK;
    }
    if (d->mantissa == 0) {
        *out = 0;
        return TR_DECIMAL_OK;
    }
    if (up > 0) {
        if (up > TR_SCALE_MAX || __builtin_mul_overflow(d->mantissa, tr_power_of_ten[up], out) ||
            *out >= tr_power_of_ten[TR_DIGITS_MAX] || *out <= -tr_power_of_ten[TR_DIGITS_MAX])
            return TR_DECIMAL_TOO_MANY_DIGITS;
        return TR_DECIMAL_OK;
    }
    if (-up > TR_SCALE_MAX || d->mantissa % tr_power_of_ten[-up])
        return TR_DECIMAL_TOO_MANY_DIGITS;
    *out = d->mantissa / tr_power_of_ten[-up];
    return TR_DECIMAL_OK;
}

/* Decimals that the number needs, its trailing zeros left out. */
static inline int64_t tr_decimal_needed(const struct tr_decimal *d) {
    int64_t needed = d->decimals;
    int64_t mantissa = d->mantissa;
    if (mantissa == 0)
        return 0;
    while (needed > 0 && mantissa % 10 == 0) {
        mantissa /= 10;
        needed--;
    }
    return needed > 0 ? needed : 0;
}

/* Eight decimal digits of `value` < 10^8, one a byte, the first in the lowest: halves, then pairs, then digits. */
static inline uint64_t tr_eight_digits_of(uint64_t value) {
    const uint64_t fours = value / 10000 | (value % 10000) << 32;
    const uint64_t hundreds = ((fours * 10486) >> 20) & UINT64_C(0x0000007F0000007F);
    const uint64_t pairs = hundreds | (fours - 100 * hundreds) << 16;
    const uint64_t tens = ((pairs * 103) >> 10) & UINT64_C(0x000F000F000F000F);
    return tens | (pairs - 10 * tens) << 8;
}

/* Write the decimal text of `value` (< 10^19) without leading zeros; returns one past its end. `out` has room for 24
   bytes: always eight are stored at a time. */
static inline char *tr_decimal_write(char *out, uint64_t value) {
    const uint64_t ascii = UINT64_C(0x3030303030303030);
    const uint64_t unit = UINT64_C(100000000);
    uint64_t rest[2];
    int64_t n = 0;
    while (value >= unit) {
        rest[n++] = value % unit;
        value /= unit;
    }
    const uint64_t digits = tr_eight_digits_of(value);
    const int zeros = digits ? __builtin_ctzll(digits) / 8 : 7;
    const uint64_t head = (digits + ascii) >> (8 * zeros);
    memcpy(out, &head, 8);
    out += 8 - zeros;
    while (n > 0) {
        const uint64_t eight = tr_eight_digits_of(rest[--n]) + ascii;
        memcpy(out, &eight, 8);
        out += 8;
    }
    return out;
}

#endif
