/* The calls of money_api.h: add, multiply, compare, divide and round, each exact or refused. */
#include "money.h"

enum { DONE = 0, TOO_WIDE = 1, NOT_DEFINED = 2 };

int64_t tr_wide_add(int64_t *sum, const int64_t *a)
{
    tr_wide result;
    if (__builtin_add_overflow(tr_wide_read(sum), tr_wide_read(a), &result))
        return TOO_WIDE;
    tr_wide_write(sum, result);
    return DONE;
}

int64_t tr_wide_subtract(int64_t *sum, const int64_t *a)
{
    tr_wide result;
    if (__builtin_sub_overflow(tr_wide_read(sum), tr_wide_read(a), &result))
        return TOO_WIDE;
    tr_wide_write(sum, result);
    return DONE;
}

int64_t tr_wide_multiply_add(int64_t *sum, int64_t a, int64_t b)
{
    tr_wide result;
    if (__builtin_add_overflow(tr_wide_read(sum), (tr_wide)a * b, &result))
        return TOO_WIDE;
    tr_wide_write(sum, result);
    return DONE;
}

int64_t tr_wide_multiply(int64_t *wide, int64_t factor)
{
    tr_wide result;
    if (__builtin_mul_overflow(tr_wide_read(wide), (tr_wide)factor, &result))
        return TOO_WIDE;
    tr_wide_write(wide, result);
    return DONE;
}

int64_t tr_wide_compare(const int64_t *a, const int64_t *b)
{
    const tr_wide left = tr_wide_read(a);
    const tr_wide right = tr_wide_read(b);
    return (left > right) - (left < right);
}

/* Write a magnitude with a sign; -2^127 has no positive twin. */
static int64_t write_signed(int64_t *words, tr_wide_bits magnitude, int negative)
{
    const tr_wide_bits limit = (tr_wide_bits)1 << 127;
    if (magnitude > limit - !negative)
        return TOO_WIDE;
    tr_wide_write(words, (tr_wide)(negative ? -magnitude : magnitude));
    return DONE;
}

static tr_wide_bits divide(tr_wide_bits a, tr_wide_bits b)
{
    const tr_wide_bits quotient = a / b;
    return quotient + tr_rounds_up(quotient, a % b, b);
}

int64_t tr_wide_divide(int64_t *quotient, const int64_t *a, const int64_t *b)
{
    const tr_wide left = tr_wide_read(a);
    const tr_wide right = tr_wide_read(b);
    if (right == 0)
        return NOT_DEFINED;
    return write_signed(quotient, divide(tr_wide_magnitude(left), tr_wide_magnitude(right)),
                        (left < 0) != (right < 0));
}

int64_t tr_wide_share(int64_t *share, const int64_t *amount, int64_t part, int64_t whole)
{
    if (whole <= 0 || part < 0 || part > whole)
        return NOT_DEFINED;
    const tr_wide value = tr_wide_read(amount);
    const tr_wide_bits magnitude = tr_wide_magnitude(value);
    const tr_wide_bits parts = (tr_wide_bits)part;
    const tr_wide_bits divisor = (tr_wide_bits)whole;
    /* amount = each x whole + rest, and rest x part < 2^126: nothing is wider than the amount. */
    const tr_wide_bits each = magnitude / divisor;
    const tr_wide_bits rest = magnitude % divisor * parts;
    const tr_wide_bits result = each * parts + rest / divisor;
    return write_signed(share, result + tr_rounds_up(result, rest % divisor, divisor), value < 0);
}

int64_t tr_wide_convert(int64_t *sum, const int64_t *amount, int64_t price, int64_t unit, int64_t up)
{
    if (price <= 0 || unit <= 0)
        return NOT_DEFINED;
    const tr_wide value = tr_wide_read(amount);
    /* value = units x unit + rest with 0 <= rest < unit, so that rest x price < 2^126 and its quotient is the rounding. */
    tr_wide units = value / unit;
    tr_wide rest = value % unit;
    if (rest < 0) {
        rest += unit;
        units -= 1;
    }
    const tr_wide part = rest * price;
    const tr_wide rounded = part / unit + (up != 0 && part % unit != 0);
    tr_wide result;
    if (__builtin_mul_overflow(units, (tr_wide)price, &result))
        return TOO_WIDE;
    if (__builtin_add_overflow(result, rounded, &result))
        return TOO_WIDE;
    if (__builtin_add_overflow(result, tr_wide_read(sum), &result))
        return TOO_WIDE;
    tr_wide_write(sum, result);
    return DONE;
}

int64_t tr_wide_at(const int64_t *wide, int64_t digits, int64_t wanted, int64_t *out)
{
    if (digits < 0 || digits > TR_WIDE_DIGITS_MAX || wanted < 0 || wanted > TR_WIDE_DIGITS_MAX)
        return NOT_DEFINED;
    tr_wide value = tr_wide_read(wide);
    tr_wide unit = 1;
    for (int64_t n = digits > wanted ? digits - wanted : wanted - digits; n > 0; n--)
        unit *= 10;
    if (wanted >= digits) {
        if (__builtin_mul_overflow(value, unit, &value))
            return TOO_WIDE;
    } else {
        const tr_wide_bits rounded = divide(tr_wide_magnitude(value), (tr_wide_bits)unit);
        value = value < 0 ? -(tr_wide)rounded : (tr_wide)rounded; /* at least 10 times less than 2^127 */
    }
    if (value != (int64_t)value)
        return TOO_WIDE;
    *out = (int64_t)value;
    return DONE;
}
