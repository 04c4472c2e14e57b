/* The checksum of Kraken over a live book's best levels, from text that is rewritten only from the nearest change on (L4). */
#include "crc32.h"
#include "decimal.h"
#include "live.h"

#define LANE_BYTES 16

int64_t tr_crc32(int64_t crc, const char *text, int64_t n) {
    return tr_crc32_portable((uint32_t)crc, text, (size_t)n);
}

int64_t tr_crc32_folded(const char *text, int64_t n) {
    char block[LANE_BYTES + 4096];
    if (n < 4 || n > 4096)
        return -1;
    memcpy(block + LANE_BYTES, text, (size_t)n);
    return tr_crc32_of_block(block + LANE_BYTES, (size_t)n);
}

/* Bring one side's text up to date; returns its length. */
static int64_t write_side(tr_live *l, int64_t side) {
    struct tr_live_tail *t = l->tail;
    const int64_t i = tr_book_side_index(side);
    const int64_t n = tr_book_count(l->book, side);
    const int64_t used = n < TR_CRC_LEVELS ? n : TR_CRC_LEVELS;
    const struct tr_level_pair *best = tr_book_best(l->book, side);
    const uint64_t price_unit = (uint64_t)tr_power_of_ten[l->price_scale - t->crc_width[0]];
    const uint64_t qty_unit = (uint64_t)tr_power_of_ten[l->qty_scale - t->crc_width[1]];
    const int64_t from = t->stale_from[i] < used ? t->stale_from[i] : used;
    char *p = t->crc_text[i] + (from > 0 ? t->crc_end[i][from - 1] : 0);
    for (int64_t k = from; k < used; k++) {
        const uint64_t price = (uint64_t)best[-k].price;
        const uint64_t qty = (uint64_t)best[-k].qty;
        p = tr_decimal_write(p, TR_LIKELY(price_unit == 1) ? price : price / price_unit);
        p = tr_decimal_write(p, TR_LIKELY(qty_unit == 1) ? qty : qty / qty_unit);
        t->crc_end[i][k] = (int32_t)(p - t->crc_text[i]);
    }
    t->stale_from[i] = TR_CRC_LEVELS;
    return p - t->crc_text[i];
}

int64_t tr_live_crc_kraken(tr_live *l) {
    struct tr_live_tail *t = l->tail;
    char block[LANE_BYTES + 2 * TR_CRC_TEXT_BYTES + 64];
    if (t->stale_from[0] >= TR_CRC_LEVELS && t->stale_from[1] >= TR_CRC_LEVELS)
        return t->crc;
    char *text = block + LANE_BYTES;
    const size_t asks = (size_t)write_side(l, TR_ASK);
    const size_t bids = (size_t)write_side(l, TR_BID);
    memcpy(text, t->crc_text[1], asks);
    memcpy(text + asks, t->crc_text[0], bids);
    t->crc = asks + bids < 4 ? tr_crc32_portable(0, text, asks + bids) : tr_crc32_of_block(text, asks + bids);
    return t->crc;
}
