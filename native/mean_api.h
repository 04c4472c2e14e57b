/* The mean of integers: a 128-bit sum, of which `sum_low` holds the lower 64 bits, divided by a count above 0, as the
   nearest double (half to even): one rounding, whatever the size. Called by name from njit code. */
#ifndef TICKRING_MEAN_API_H
#define TICKRING_MEAN_API_H
#include <stdint.h>
double tr_wide_mean(int64_t sum_low, int64_t sum_high, int64_t count);
#endif
