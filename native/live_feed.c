/* What a venue's truth is held against: room for more decimals, its own best bid and ask, OKX's checksum. */
#include "live_feed_api.h"

#include "crc32.h"
#include "decimal.h"
#include "level_text.h"
#include "live.h"

#define OKX_LEVELS 25
#define OKX_LEVEL_BYTES 96 /* two numbers of 19 digits, a leading "0.000…", a dot and a colon each */

void tr_outlet_tally(tr_outlet *o, int64_t what, int64_t n) { tr_count(o, what, n); }

/* ---- widening ---- */

static int64_t largest(const tr_live *l, int64_t is_qty) {
    int64_t most = 0;
    for (int64_t side = TR_ASK; side <= TR_BID; side += TR_BID - TR_ASK) {
        const struct tr_level_pair *levels = tr_book_side_read(l->book, side);
        const int64_t n = tr_book_used(l->book, side);
        for (int64_t i = 0; i < n; i++) {
            const int64_t value = is_qty ? levels[i].qty : levels[i].price;
            most = value > most ? value : most;
        }
    }
    return most;
}

static int64_t fits(const tr_live *l, int64_t is_qty, int64_t up) {
    if (up < 0 || up > TR_SCALE_MAX)
        return 0;
    return !l->book_is_valid || largest(l, is_qty) < tr_power_of_ten[TR_DIGITS_MAX] / tr_power_of_ten[up];
}

int64_t tr_live_fits_wanted(tr_live *l) {
    const int64_t up[2] = {l->want_price_scale - l->price_scale, l->want_qty_scale - l->qty_scale};
    if (!l->version || up[0] + up[1] == 0)
        return 0;
    return (up[0] == 0 || fits(l, 0, up[0])) && (up[1] == 0 || fits(l, 1, up[1]));
}

/* ---- the venue's own best bid and ask ---- */

/* Whether a text is this number: 1 yes, 0 no, -1 it is no number. */
static int is_number(const char *text, int64_t bytes, int64_t scale, int64_t value) {
    const char *end = text + bytes;
    struct tr_decimal number;
    int64_t at_scale;
    if (tr_read_number(&text, end, &number) || text != end)
        return -1;
    return tr_decimal_at(&number, scale, &at_scale) == TR_DECIMAL_OK && at_scale == value;
}

int64_t tr_live_top_is(tr_live *l, const int64_t *top, const char *bid_price, int64_t n0, const char *bid_qty,
                       int64_t n1, const char *ask_price, int64_t n2, const char *ask_qty, int64_t n3) {
    const char *const text[4] = {bid_price, bid_qty, ask_price, ask_qty};
    const int64_t bytes[4] = {n0, n1, n2, n3};
    const int64_t scale[2] = {l->price_scale, l->qty_scale};
    int64_t result = 1;
    for (int i = 0; i < 4; i++) {
        const int equal = bytes[i] ? is_number(text[i], bytes[i], scale[i & 1], top[i]) : 1;
        if (equal < 0)
            return -1;
        result &= equal;
    }
    return result;
}

/* ---- OKX ---- */

/* A value at `scale` decimals as OKX writes it: without zeros at its end, or with `width` decimals throughout. */
static char *write_number(char *out, int64_t value, int64_t scale, int64_t width, int is_fixed) {
    int64_t decimals = scale;
    while (decimals > (is_fixed ? width : 0) && value % 10 == 0) {
        value /= 10;
        decimals--;
    }
    char digits[40];
    const int64_t n = tr_decimal_write(digits, (uint64_t)value) - digits;
    int64_t whole = n - decimals;
    if (whole <= 0)
        *out++ = '0';
    for (int64_t i = 0; i < whole; i++)
        *out++ = digits[i];
    if (decimals > 0)
        *out++ = '.';
    for (; whole < 0; whole++)
        *out++ = '0';
    for (int64_t i = whole; i < n; i++)
        *out++ = digits[i];
    return out;
}

int64_t tr_live_crc_okx(tr_live *l) {
    const struct tr_live_tail *t = l->tail;
    char text[2 * OKX_LEVELS * OKX_LEVEL_BYTES];
    char *p = text;
    const struct tr_level_pair *best[2];
    int64_t n[2];
    for (int s = 0; s < 2; s++) {
        n[s] = tr_book_count(l->book, s == 0 ? TR_BID : TR_ASK);
        best[s] = tr_book_best(l->book, s == 0 ? TR_BID : TR_ASK);
    }
    for (int64_t k = 0; k < OKX_LEVELS; k++)
        for (int s = 0; s < 2; s++) {
            if (k >= n[s])
                continue;
            p = write_number(p, best[s][-k].price, l->price_scale, t->crc_width[0], t->text_is_fixed[0]);
            *p++ = ':';
            p = write_number(p, best[s][-k].qty, l->qty_scale, t->crc_width[1], t->text_is_fixed[1]);
            *p++ = ':';
        }
    const size_t bytes = p > text ? (size_t)(p - text - 1) : 0;
    return (int32_t)tr_crc32(0, text, (int64_t)bytes);
}
