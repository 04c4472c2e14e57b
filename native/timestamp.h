/*
 * A venue's time text becomes int64 nanoseconds since the epoch, exactly, from its digits.
 *
 * Two forms: a number, of seconds with a decimal fraction ("1618678133.365913"), and RFC 3339 ("2026-08-01T02:53:53.646219Z", offset
 * "Z" or +hh:mm). Beyond nine decimals only zeros are accepted. Years 1970 to 2261; leap seconds (:60) are refused.
 */
#ifndef TICKRING_TIMESTAMP_H
#define TICKRING_TIMESTAMP_H

#include "decimal.h"

#define TR_NS_PER_S INT64_C(1000000000)

/* 0, or -1 where the number is no instant of int64 nanoseconds. A whole number beyond the seconds that int64 holds
   counts ms, us or ns: which of them is told by its magnitude, years 1973 to 2262. */
static inline int tr_seconds_to_ns(const struct tr_decimal *seconds, int64_t *ns) {
    const int32_t decimals = seconds->decimals;
    if (decimals == 0 && seconds->mantissa >= tr_power_of_ten[11]) {
        const int64_t m = seconds->mantissa;
        const int64_t unit = m < tr_power_of_ten[14] ? 1000000 : m < tr_power_of_ten[17] ? 1000 : 1;
        return __builtin_mul_overflow(m, unit, ns) ? -1 : 0;
    }
    if (seconds->mantissa <= 0 || decimals < 0 || decimals > TR_SCALE_MAX)
        return -1;
    if (decimals > 9) {
        const int64_t excess = tr_power_of_ten[decimals - 9];
        *ns = seconds->mantissa / excess;
        return seconds->mantissa % excess ? -1 : 0;
    }
    return __builtin_mul_overflow(seconds->mantissa, tr_power_of_ten[9 - decimals], ns) ? -1 : 0;
}

/* `n` digits at `p` as a number, or -1. */
static inline int64_t tr_fixed_digits(const char *p, int n) {
    int64_t value = 0;
    for (int i = 0; i < n; i++) {
        if (!tr_is_digit(p[i]))
            return -1;
        value = value * 10 + (p[i] - '0');
    }
    return value;
}

/* Days from 1970-01-01 to a date of the Gregorian calendar, counting years from March. */
static inline int64_t tr_days_from_date(int64_t year, int64_t month, int64_t day) {
    const int64_t y = year - (month <= 2);
    const int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return 365 * y + y / 4 - y / 100 + y / 400 + day_of_year - 719468;
}

/* Offset text at `p` to seconds east of UTC; -1 (no offset has it) where it is neither Z nor +hh:mm nor -hh:mm. */
static inline int64_t tr_utc_offset(const char *p, const char *end) {
    if (end - p == 1 && (*p == 'Z' || *p == 'z'))
        return 0;
    if (end - p != 6 || (*p != '+' && *p != '-') || p[3] != ':')
        return -1;
    const int64_t hours = tr_fixed_digits(p + 1, 2);
    const int64_t minutes = tr_fixed_digits(p + 4, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
        return -1;
    const int64_t seconds = hours * 3600 + minutes * 60;
    return *p == '-' ? -seconds : seconds;
}

/* RFC 3339, without quotes. 0, or -1 where it is no such instant. */
static inline int tr_rfc3339_to_ns(const char *p, const char *end, int64_t *ns) {
    static const char month_days[13] = {0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (end - p < 20 || p[4] != '-' || p[7] != '-' || (p[10] != 'T' && p[10] != 't' && p[10] != ' ') ||
        p[13] != ':' || p[16] != ':')
        return -1;
    const int64_t year = tr_fixed_digits(p, 4);
    const int64_t month = tr_fixed_digits(p + 5, 2);
    const int64_t day = tr_fixed_digits(p + 8, 2);
    const int64_t hour = tr_fixed_digits(p + 11, 2);
    const int64_t minute = tr_fixed_digits(p + 14, 2);
    const int64_t second = tr_fixed_digits(p + 17, 2);
    const int is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    if (year < 1970 || year > 2261 || month < 1 || month > 12 || day < 1 || day > month_days[month] ||
        (month == 2 && day == 29 && !is_leap) || hour < 0 || hour > 23 || minute < 0 || minute > 59 ||
        second < 0 || second > 59)
        return -1;
    int64_t fraction = 0;
    p += 19;
    if (*p == '.') {
        const char *first = ++p;
        int64_t unit = TR_NS_PER_S;
        for (; p < end && tr_is_digit(*p); p++) {
            unit /= 10;
            if (unit == 0 && *p != '0')
                return -1;
            fraction += unit * (*p - '0');
        }
        if (p == first)
            return -1;
    }
    const int64_t offset = tr_utc_offset(p, end);
    if (offset == -1)
        return -1;
    const int64_t of_day = hour * 3600 + minute * 60 + second - offset;
    *ns = (tr_days_from_date(year, month, day) * 86400 + of_day) * TR_NS_PER_S + fraction;
    return *ns < 0 ? -1 : 0;
}

/* A venue's time as it stands in JSON: a number or RFC 3339, quoted or bare. 0, or -1 where it is no instant. */
static inline int tr_read_time(const char *p, int64_t bytes, int64_t *ns) {
    const int quoted = bytes >= 2 && p[0] == '"' && p[bytes - 1] == '"';
    const char *end = p + bytes - quoted;
    struct tr_decimal seconds;
    const char *next;
    p += quoted;
    if (end - p > 4 && p[4] == '-')
        return tr_rfc3339_to_ns(p, end, ns);
    if (tr_decimal_read(p, end, &seconds, &next) || next != end)
        return -1;
    return tr_seconds_to_ns(&seconds, ns);
}

#endif
