/*
 * Money is exact: price x qty in 128-bit integers, divided or brought to fewer digits only where it is said, half to even.
 *
 * A wide number is two int64 words, as a record or a checkpoint holds it: [0] the low 64 bits, [1] the high ones
 * (two's complement). Here it is one __int128 and comes in and goes out through the two functions below.
 *
 * Why it is right  Products of two int64s are below 2^126. Every sum and product is made by the compiler's checked
 * arithmetic: what does not fit is told, and nothing was written. Rounding goes by magnitude, which half to even
 * does not mind, and by the remainder itself, never by a fraction.
 */
#ifndef TICKRING_MONEY_H
#define TICKRING_MONEY_H

#include <stdint.h>

#include "money_api.h"

#define TR_WIDE_DIGITS_MAX 38 /* 10^38 < 2^127 < 10^39 */

__extension__ typedef __int128 tr_wide;
__extension__ typedef unsigned __int128 tr_wide_bits;

static inline tr_wide tr_wide_read(const int64_t *words)
{
    return (tr_wide)((tr_wide_bits)(uint64_t)words[1] << 64 | (uint64_t)words[0]);
}

static inline void tr_wide_write(int64_t *words, tr_wide value)
{
    words[0] = (int64_t)(uint64_t)(tr_wide_bits)value;
    words[1] = (int64_t)(uint64_t)((tr_wide_bits)value >> 64);
}

static inline tr_wide_bits tr_wide_magnitude(tr_wide value)
{
    return value < 0 ? -(tr_wide_bits)value : (tr_wide_bits)value;
}

/* 1 where a quotient is rounded away from zero: more than half remains, or half of it and the quotient is odd. */
static inline unsigned tr_rounds_up(tr_wide_bits quotient, tr_wide_bits remainder, tr_wide_bits divisor)
{
    const tr_wide_bits missing = divisor - remainder;
    return remainder > missing || (remainder == missing && (quotient & 1));
}

#endif
