/* The call of mean_api.h. The quotient is taken to 61 bits and more, and a bit that stands for all the rest is set below
   them: the one conversion to double then rounds as if it saw every digit. */
#include <math.h>

#include "mean_api.h"
#include "money.h"

enum { KEPT_BITS = 61 };

/* Number of binary digits. */
static int bits_of(uint64_t word)
{
    return word == 0 ? 0 : 64 - __builtin_clzll(word);
}

double tr_wide_mean(int64_t sum_low, int64_t sum_high, int64_t count)
{
    const tr_wide_bits bits = (tr_wide_bits)(uint64_t)sum_high << 64 | (uint64_t)sum_low;
    const int negative = sum_high < 0;
    const tr_wide_bits sum = negative ? -bits : bits;
    const tr_wide_bits divisor = (uint64_t)count;
    tr_wide_bits quotient = sum / divisor;
    tr_wide_bits rest = sum - quotient * divisor;
    int shift = 0;
    while (quotient >> KEPT_BITS == 0 && rest != 0) { /* once; twice or three times where the mean is below 1 */
        const int more = KEPT_BITS + 1 - bits_of((uint64_t)quotient);
        const tr_wide_bits raised = rest << more; /* rest < 2**63, more <= 62 */
        const tr_wide_bits digits_more = raised / divisor;
        rest = raised - digits_more * divisor;
        quotient = quotient << more | digits_more;
        shift += more;
    }
    while (quotient >> (KEPT_BITS + 1) != 0) {
        rest |= quotient & 1;
        quotient >>= 1;
        shift--;
    }
    const int64_t digits = (int64_t)(quotient << 1) | (rest != 0);
    const double mean = ldexp((double)digits, -shift - 1);
    return negative ? -mean : mean;
}
