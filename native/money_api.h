/* Exact money (money.h): calls on 128-bit numbers of two int64 words [low, high]. Reached by cffi, and from njit code by
   name. Each answers 0 when it is done, and 1 where the result does not fit: then nothing was written. */
#ifndef TICKRING_MONEY_API_H
#define TICKRING_MONEY_API_H
#include <stdint.h>

/* sum += a */
int64_t tr_wide_add(int64_t *sum, const int64_t *a);

/* sum -= a */
int64_t tr_wide_subtract(int64_t *sum, const int64_t *a);

/* sum += a x b */
int64_t tr_wide_multiply_add(int64_t *sum, int64_t a, int64_t b);

/* wide *= factor */
int64_t tr_wide_multiply(int64_t *wide, int64_t factor);

/* -1, 0 or 1: a is less than, equal to or greater than b. */
int64_t tr_wide_compare(const int64_t *a, const int64_t *b);

/* quotient = a / b, half to even; 2 and nothing written where b is 0. */
int64_t tr_wide_divide(int64_t *quotient, const int64_t *a, const int64_t *b);

/* share = amount x part / whole, half to even; the product is never too wide. 2 and nothing written unless
   0 <= part <= whole and whole > 0. `share` may be `amount`. */
int64_t tr_wide_share(int64_t *share, const int64_t *amount, int64_t part, int64_t whole);

/* sum += amount x price / unit, rounded once: towards +infinity where `up` is not 0, else towards -infinity. 2 and nothing
   written unless price > 0 and unit > 0; 1 also where the whole units of the amount x price do not fit by themselves. */
int64_t tr_wide_convert(int64_t *sum, const int64_t *amount, int64_t price, int64_t unit, int64_t up);

/* An integer of `digits` decimals as an int64 of `wanted` decimals, half to even; 2 unless both are 0 .. 38. */
int64_t tr_wide_at(const int64_t *wide, int64_t digits, int64_t wanted, int64_t *out);
#endif
