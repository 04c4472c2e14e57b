/*
 * A price-level book in flat, relocatable memory: copying its bytes copies the book.
 *
 * Layout (bytes; C = capacity in levels a side)
 *     0         magic      i64   TR_BOOK_MAGIC
 *     8         capacity   i64
 *     16        count      i64 x 2   levels held: bids, asks
 *     32        reserved   i64 x 4   zero
 *     64        bids       C x {price i64, qty i64}   ascending by price:  the best is last
 *     64 + 16C  asks       C x {price i64, qty i64}   descending by price: the best is last
 *
 * Invariants (checked by tr_book_check; after every change in builds with TR_BOOK_DEBUG)
 *     B1  0 <= count <= capacity on both sides.
 *     B2  Rank is strictly ascending along each array; rank is price for bids and -price for asks.
 *     B3  No level has a quantity <= 0.
 *
 * Cost  Updates cluster at the best, so the best is at the end: an insertion moves only the levels better than
 * itself, and the search gallops down from the end before it bisects. Building from a snapshot checks for the two
 * orders that venues send and sorts once otherwise (bottom-up merge, stable).
 */
#ifndef TICKRING_BOOK_H
#define TICKRING_BOOK_H

#include <stdint.h>
#include <string.h>

#define TR_BOOK_MAGIC INT64_C(0x313030424b4f4254) /* "TBOKB001" read as little-endian text */
#define TR_BOOK_HEADER_BYTES 64

#define TR_BID 1
#define TR_ASK (-1)

/* Outcome of one level; a negative one changed nothing. */
enum tr_book_change {
    TR_BOOK_FULL = -1,
    TR_BOOK_SAME = 0,
    TR_BOOK_CHANGED = 1,
    TR_BOOK_TOP = 2,
    TR_BOOK_ABSENT = 3
};

struct tr_level_pair {
    int64_t price;
    int64_t qty;
};

struct tr_book_header {
    int64_t magic;
    int64_t capacity;
    int64_t count[2];
    int64_t reserved[4];
};
_Static_assert(sizeof(struct tr_book_header) == TR_BOOK_HEADER_BYTES, "book header");

static inline int64_t tr_book_side_index(int64_t side) { return side > 0 ? 0 : 1; }

static inline struct tr_level_pair *tr_book_side(void *book, int64_t side)
{
    struct tr_book_header *h = book;
    struct tr_level_pair *bids = (struct tr_level_pair *)((char *)book + TR_BOOK_HEADER_BYTES);
    return side > 0 ? bids : bids + h->capacity;
}

static inline const struct tr_level_pair *tr_book_side_read(const void *book, int64_t side)
{
    const struct tr_book_header *h = book;
    const struct tr_level_pair *bids =
        (const struct tr_level_pair *)((const char *)book + TR_BOOK_HEADER_BYTES);
    return side > 0 ? bids : bids + h->capacity;
}

static inline int64_t tr_book_count(const void *book, int64_t side)
{
    return ((const struct tr_book_header *)book)->count[tr_book_side_index(side)];
}

/* Number of levels whose rank is below that of `price`: where the level is, or where it belongs. */
static inline int64_t tr_book_find(const struct tr_level_pair *levels, int64_t n, int64_t side,
                                   int64_t price)
{
    const int64_t rank = price * side;
    int64_t high = n; /* every level at or above `high` outranks the price */
    int64_t step = 1;
    while (step <= n && levels[n - step].price * side > rank) {
        high = n - step;
        step *= 2;
    }
    int64_t low = step <= n ? n - step : -1; /* levels[low] ranks at or below the price */
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (levels[middle].price * side > rank)
            high = middle;
        else
            low = middle;
    }
    return low >= 0 && levels[low].price == price ? low : high;
}

/* tr_book_apply that also tells the level's distance from the best (0 = the best) before or after the change. */
static inline int64_t tr_book_apply_at(void *book, int64_t side, int64_t price, int64_t qty,
                                       int64_t *distance)
{
    struct tr_book_header *h = book;
    int64_t *count = &h->count[tr_book_side_index(side)];
    struct tr_level_pair *levels = tr_book_side(book, side);
    const int64_t n = *count;
    const int64_t at = tr_book_find(levels, n, side, price);
    const int64_t found = at < n && levels[at].price == price;
    *distance = n - at - found;
    if (found) {
        if (qty > 0) {
            if (levels[at].qty == qty)
                return TR_BOOK_SAME;
            levels[at].qty = qty;
        } else {
            memmove(levels + at, levels + at + 1, (size_t)(n - at - 1) * sizeof *levels);
            *count = n - 1;
        }
    } else {
        if (qty <= 0)
            return TR_BOOK_ABSENT;
        if (n == h->capacity)
            return TR_BOOK_FULL;
        memmove(levels + at + 1, levels + at, (size_t)(n - at) * sizeof *levels);
        levels[at].price = price;
        levels[at].qty = qty;
        *count = n + 1;
    }
    return *distance == 0 ? TR_BOOK_TOP : TR_BOOK_CHANGED;
}

#include "book_api.h"

#endif
