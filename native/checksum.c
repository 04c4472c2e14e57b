/* Checksums of a live book, over text that is rewritten only for a side whose best levels have changed (L4). */
#include "crc32.h"
#include "decimal.h"
#include "live.h"

uint32_t tr_crc32_tables[8][256];

__attribute__((constructor)) static void make_crc32_tables(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t crc = i;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 1 ? (crc >> 1) ^ TR_CRC32_POLYNOMIAL : crc >> 1;
        tr_crc32_tables[0][i] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (uint32_t i = 0; i < 256; i++) {
            const uint32_t before = tr_crc32_tables[k - 1][i];
            tr_crc32_tables[k][i] = tr_crc32_tables[0][before & 0xFF] ^ (before >> 8);
        }
}

int64_t tr_crc32(int64_t crc, const char *text, int64_t n) {
    return tr_crc32_update((uint32_t)crc, text, (size_t)n);
}

static void write_crc_text(tr_live *l, int64_t side) {
    struct tr_live_tail *t = l->tail;
    const int64_t i = tr_book_side_index(side);
    const struct tr_level_pair *levels = tr_book_side_read(l->book, side);
    const int64_t n = tr_book_count(l->book, side);
    const int64_t used = n < TR_CRC_LEVELS ? n : TR_CRC_LEVELS;
    const uint64_t price_unit = (uint64_t)tr_power_of_ten[l->price_scale - t->crc_width[0]];
    const uint64_t qty_unit = (uint64_t)tr_power_of_ten[l->qty_scale - t->crc_width[1]];
    char *p = t->crc_text[i];
    for (int64_t k = 0; k < used; k++) {
        const uint64_t price = (uint64_t)levels[n - 1 - k].price;
        const uint64_t qty = (uint64_t)levels[n - 1 - k].qty;
        p = tr_decimal_write(p, TR_LIKELY(price_unit == 1) ? price : price / price_unit);
        p = tr_decimal_write(p, TR_LIKELY(qty_unit == 1) ? qty : qty / qty_unit);
    }
    t->crc_text_bytes[i] = (int32_t)(p - t->crc_text[i]);
    t->crc_is_stale[i] = 0;
}

int64_t tr_live_crc_kraken(tr_live *l) {
    struct tr_live_tail *t = l->tail;
    const int asks = t->crc_is_stale[1];
    const int bids = t->crc_is_stale[0];
    if (asks) {
        write_crc_text(l, TR_ASK);
        t->crc_of_asks = tr_crc32_update(0, t->crc_text[1], (size_t)t->crc_text_bytes[1]);
    }
    if (bids)
        write_crc_text(l, TR_BID);
    if (asks || bids)
        t->crc = tr_crc32_update(t->crc_of_asks, t->crc_text[0], (size_t)t->crc_text_bytes[0]);
    return t->crc;
}
