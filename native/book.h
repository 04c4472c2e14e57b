/*
 * A price-level book in flat, relocatable memory: copying its bytes copies the book.
 *
 * Layout (bytes; C = capacity in slots a side)
 *     0         magic      i64   TR_BOOK_MAGIC
 *     8         capacity   i64
 *     16        count      i64 x 2   levels held: bids, asks
 *     32        used       i64 x 2   slots in use, holes among them
 *     48        solid      i64 x 2   slots at the best end that are known to hold no hole
 *     64        bids       C x {price i64, qty i64}   ascending by price:  the best is last
 *     64 + 16C  asks       C x {price i64, qty i64}   descending by price: the best is last
 *
 * A hole is a slot whose level was deleted: it keeps its price and has the quantity 0. Levels come and go at the same
 * prices, so the next level there fills it, and one beside it moves the few slots between; without holes each would
 * move all levels better than itself. Readers of the best TR_BOOK_SOLID levels meet none.
 *
 * Invariants (checked by tr_book_check; after every change in builds with TR_BOOK_DEBUG)
 *     B1  0 <= count <= used <= capacity on both sides, and count is the number of slots that are no hole.
 *     B2  Rank is strictly ascending along each array, holes included; rank is price for bids and -price for asks.
 *     B3  No slot has a quantity < 0, and none of the last `solid` has 0.
 *     B4  solid >= the smaller of used and TR_BOOK_SOLID: a distance below TR_BOOK_SOLID counts no hole.
 *
 * Cost  Updates cluster at the best, so the best is at the end. A search looks at windows from there, each eight times the
 * one before, and halves the one that holds the price without a branch. Building from a snapshot checks for the two orders
 * that venues send and sorts once otherwise (bottom-up merge, stable).
 */
#ifndef TICKRING_BOOK_H
#define TICKRING_BOOK_H

#include <stdint.h>
#include <string.h>

#define TR_BOOK_MAGIC INT64_C(0x323030424b4f4254) /* "TBOKB002" read as little-endian text */
#define TR_BOOK_HEADER_BYTES 64
#define TR_BOOK_SOLID 64     /* more than any reader of the best levels looks at */
#define TR_BOOK_REACH 32     /* slots each way in which an insertion looks for a hole */
#define TR_BOOK_FIRST_WINDOW 32
#define TR_BOOK_LANES 4      /* searches that go side by side */

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
    int64_t used[2];
    int64_t solid[2];
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

/* Slots in use: the best level is in the last. */
static inline int64_t tr_book_used(const void *book, int64_t side)
{
    return ((const struct tr_book_header *)book)->used[tr_book_side_index(side)];
}

/* The best level; the TR_BOOK_SOLID - 1 before it, as far as there are levels, are the next ones. */
static inline const struct tr_level_pair *tr_book_best(const void *book, int64_t side)
{
    return tr_book_side_read(book, side) + tr_book_used(book, side) - 1;
}

/* Turns a price into its rank on a side, by exclusive or. */
static inline int64_t tr_book_mask(int64_t side) { return side > 0 ? 0 : -1; }

/* The number of slots at the best end among which the place of `rank` is, and how many of them rank above it for sure. */
static inline int64_t tr_book_window(const struct tr_level_pair *slots, int64_t used, int64_t mask, int64_t rank,
                                     int64_t *above)
{
    int64_t window = TR_BOOK_FIRST_WINDOW;
    *above = 0;
    while (window < used && (slots[used - window].price ^ mask) > rank) {
        *above = window;
        window *= 8;
    }
    return window < used ? window : used;
}

/* Number of slots whose rank is below that of `price`: where the level is, or where it belongs. */
static inline int64_t tr_book_find(const struct tr_level_pair *slots, int64_t used, int64_t side, int64_t price)
{
    const int64_t mask = tr_book_mask(side);
    const int64_t rank = price ^ mask;
    int64_t above;
    const int64_t window = tr_book_window(slots, used, mask, rank, &above);
    const struct tr_level_pair *at = slots + used - window;
    int64_t n = window - above;
    while (n > 1) {
        const int64_t half = n / 2;
        at += (at[half - 1].price ^ mask) < rank ? half : 0;
        n -= half;
    }
    return at - slots + (n == 1 && (at->price ^ mask) < rank);
}

/* tr_book_find of up to TR_BOOK_LANES prices at a time: what one waits for from memory, all wait for together. */
static inline void tr_book_find_some(const struct tr_level_pair *slots, int64_t used, int64_t side,
                                     const struct tr_level_pair *pairs, int64_t n_pairs, int64_t *places)
{
    const int64_t mask = tr_book_mask(side);
    const struct tr_level_pair *at[TR_BOOK_LANES];
    int64_t rank[TR_BOOK_LANES];
    int64_t lowest = INT64_MAX;
    for (int64_t k = 0; k < TR_BOOK_LANES; k++) {
        rank[k] = pairs[k < n_pairs ? k : 0].price ^ mask;
        lowest = rank[k] < lowest ? rank[k] : lowest;
    }
    int64_t above;
    int64_t n = tr_book_window(slots, used, mask, lowest, &above);
    for (int64_t k = 0; k < TR_BOOK_LANES; k++)
        at[k] = slots + used - n;
    while (n > 1) {
        const int64_t half = n / 2;
        for (int64_t k = 0; k < TR_BOOK_LANES; k++)
            at[k] += (at[k][half - 1].price ^ mask) < rank[k] ? half : 0;
        n -= half;
    }
    for (int64_t k = 0; k < n_pairs; k++)
        places[k] = at[k] - slots + (n == 1 && (at[k]->price ^ mask) < rank[k]);
}

/* A place found before the slots moved a little, brought up to date. */
static inline int64_t tr_book_place(const struct tr_level_pair *slots, int64_t used, int64_t side, int64_t price,
                                    int64_t place)
{
    const int64_t mask = tr_book_mask(side);
    const int64_t rank = price ^ mask;
    if (place > used)
        place = used;
    while (place > 0 && (slots[place - 1].price ^ mask) >= rank)
        place--;
    while (place < used && (slots[place].price ^ mask) < rank)
        place++;
    return place;
}

/* Take the holes out of one side. */
void tr_book_squeeze(void *book, int64_t side);

/* Restore B4 when levels near the best were deleted. */
void tr_book_solidify(void *book, int64_t side);

static inline void tr_book_remove(void *book, int64_t side, struct tr_level_pair *slots, int64_t place)
{
    struct tr_book_header *h = book;
    const int64_t i = tr_book_side_index(side);
    const int64_t above = h->used[i] - place - 1;
    h->count[i]--;
    if (above >= TR_BOOK_SOLID) {
        slots[place].qty = 0;
        h->solid[i] = above < h->solid[i] ? above : h->solid[i];
        return;
    }
    memmove(slots + place, slots + place + 1, (size_t)above * sizeof *slots);
    h->used[i]--;
    h->solid[i]--;
    if (h->solid[i] < TR_BOOK_SOLID && h->solid[i] < h->used[i])
        tr_book_solidify(book, side);
}

/* Fill the nearest hole within reach by moving the slots between; the place that became free, or -1. */
static inline int64_t tr_book_fill_hole(struct tr_level_pair *slots, int64_t place, int64_t end_of_holes)
{
    for (int64_t reach = 0; reach < TR_BOOK_REACH; reach++) {
        const int64_t up = place + reach;
        if (up < end_of_holes && slots[up].qty == 0) {
            memmove(slots + place + 1, slots + place, (size_t)reach * sizeof *slots);
            return place;
        }
        const int64_t down = place - 1 - reach;
        if (down >= 0 && slots[down].qty == 0) {
            memmove(slots + down, slots + down + 1, (size_t)reach * sizeof *slots);
            return place - 1;
        }
    }
    return -1;
}

static inline int64_t tr_book_insert(void *book, int64_t side, struct tr_level_pair *slots, int64_t place,
                                     struct tr_level_pair pair)
{
    struct tr_book_header *h = book;
    const int64_t i = tr_book_side_index(side);
    const int64_t above = h->used[i] - place;
    if (above >= TR_BOOK_SOLID && h->count[i] < h->used[i]) {
        const int64_t freed = tr_book_fill_hole(slots, place, h->used[i] - h->solid[i]);
        if (freed >= 0) {
            slots[freed] = pair;
            h->count[i]++;
            return TR_BOOK_CHANGED;
        }
    }
    if (h->used[i] == h->capacity) {
        if (h->count[i] == h->used[i])
            return TR_BOOK_FULL;
        tr_book_squeeze(book, side);
        place = tr_book_find(slots, h->used[i], side, pair.price);
    }
    memmove(slots + place + 1, slots + place, (size_t)(h->used[i] - place) * sizeof *slots);
    slots[place] = pair;
    h->solid[i] += place >= h->used[i] - h->solid[i];
    h->used[i]++;
    h->count[i]++;
    return TR_BOOK_CHANGED;
}

/*
 * tr_book_apply where the level is or belongs. Tells its distance from the best (0: the best) before or after the change,
 * right below TR_BOOK_SOLID and at least that beyond, and the quantity that stood there.
 */
static inline int64_t tr_book_apply_at(void *book, int64_t side, int64_t price, int64_t qty, int64_t place,
                                       int64_t *distance, int64_t *before)
{
    struct tr_book_header *h = book;
    const int64_t i = tr_book_side_index(side);
    struct tr_level_pair *slots = tr_book_side(book, side);
    const int64_t found = place < h->used[i] && slots[place].price == price;
    *before = found ? slots[place].qty : 0;
    *distance = h->used[i] - place - found;
    if (found && qty > 0) {
        if (*before == qty)
            return TR_BOOK_SAME;
        slots[place].qty = qty;
        h->count[i] += *before == 0;
    } else if (qty > 0) {
        const int64_t change = tr_book_insert(book, side, slots, place, (struct tr_level_pair){price, qty});
        if (change == TR_BOOK_FULL)
            return change;
    } else {
        if (*before == 0)
            return TR_BOOK_ABSENT;
        tr_book_remove(book, side, slots, place);
    }
    return *distance == 0 ? TR_BOOK_TOP : TR_BOOK_CHANGED;
}

#include "book_api.h"

#endif
