/* The exported calls of native/book.h. */
#include "book.h"

#include <assert.h>
#include <stddef.h>

#ifdef TR_BOOK_DEBUG
#define BOOK_IS_SOUND(book) assert(tr_book_check(book) == 0)
#else
#define BOOK_IS_SOUND(book) ((void)(book))
#endif

#define CAPACITY_LIMIT (INT64_C(1) << 32)

int64_t tr_book_bytes(int64_t capacity)
{
    if (capacity < 1 || capacity > CAPACITY_LIMIT)
        return -1;
    return TR_BOOK_HEADER_BYTES + 2 * capacity * (int64_t)sizeof(struct tr_level_pair);
}

void tr_book_init(void *book, int64_t capacity)
{
    struct tr_book_header *h = book;
    memset(h, 0, sizeof *h);
    h->magic = TR_BOOK_MAGIC;
    h->capacity = capacity;
}

void tr_book_clear(void *book)
{
    struct tr_book_header *h = book;
    h->count[0] = 0;
    h->count[1] = 0;
}

int64_t tr_book_apply(void *book, int64_t side, int64_t price, int64_t qty)
{
    int64_t distance;
    const int64_t change = tr_book_apply_at(book, side, price, qty, &distance);
    BOOK_IS_SOUND(book);
    return change;
}

int64_t tr_book_apply_told(void *book, int64_t side, int64_t price, int64_t qty, int64_t *told)
{
    const struct tr_level_pair *levels = tr_book_side(book, side);
    const int64_t n = tr_book_count(book, side);
    const int64_t at = tr_book_find(levels, n, side, price);
    told[1] = at < n && levels[at].price == price ? levels[at].qty : 0;
    const int64_t change = tr_book_apply_at(book, side, price, qty, &told[0]);
    BOOK_IS_SOUND(book);
    return change;
}

/* How wire levels lie: +1 rank ascends (as stored), -1 rank descends (best first, what most venues send), 0 neither. */
static int64_t order_of(const struct tr_level_pair *pairs, int64_t n, int64_t side)
{
    int64_t up = 1;
    int64_t down = 1;
    for (int64_t i = 1; i < n; i++) {
        const int64_t previous = pairs[i - 1].price * side;
        const int64_t rank = pairs[i].price * side;
        up &= rank > previous;
        down &= rank < previous;
        if (!(up | down))
            return 0;
    }
    return up ? 1 : -1;
}

/* Stable bottom-up merge sort by rank between two buffers; returns the one that holds the result. */
static struct tr_level_pair *sort_by_rank(struct tr_level_pair *from, struct tr_level_pair *to,
                                          int64_t n, int64_t side)
{
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t start = 0; start < n; start += 2 * width) {
            const int64_t middle = start + width < n ? start + width : n;
            const int64_t end = middle + width < n ? middle + width : n;
            int64_t left = start;
            int64_t right = middle;
            for (int64_t i = start; i < end; i++) {
                const int take_left =
                    left < middle && (right >= end || from[left].price * side <= from[right].price * side);
                to[i] = take_left ? from[left++] : from[right++];
            }
        }
        struct tr_level_pair *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

int64_t tr_book_load(void *book, int64_t side, int64_t *pairs, int64_t n)
{
    struct tr_book_header *h = book;
    struct tr_level_pair *levels = tr_book_side(book, side);
    struct tr_level_pair *wire = (struct tr_level_pair *)(void *)pairs;
    if (n > h->capacity)
        return TR_BOOK_FULL;
    const int64_t order = order_of(wire, n, side);
    const struct tr_level_pair *sorted = order ? wire : sort_by_rank(wire, levels, n, side);
    int64_t count = 0;
    for (int64_t i = 0; i < n; i++) {
        const struct tr_level_pair pair = order < 0 ? sorted[n - 1 - i] : sorted[i];
        if (count > 0 && levels[count - 1].price == pair.price && i > 0)
            count -= 1; /* an equal price sorts after the earlier one: the last on the wire counts */
        levels[count].price = pair.price;
        levels[count].qty = pair.qty;
        count += 1;
    }
    int64_t kept = 0;
    for (int64_t i = 0; i < count; i++) {
        levels[kept] = levels[i];
        kept += levels[i].qty > 0;
    }
    h->count[tr_book_side_index(side)] = kept;
    BOOK_IS_SOUND(book);
    return kept;
}

int64_t tr_book_copy(void *to, int64_t to_capacity, const void *from)
{
    const struct tr_book_header *h = from;
    if (h->count[0] > to_capacity || h->count[1] > to_capacity)
        return -1;
    tr_book_init(to, to_capacity);
    struct tr_book_header *copy = to;
    for (int64_t side = TR_ASK; side <= TR_BID; side += 2) {
        const int64_t n = tr_book_count(from, side);
        memcpy(tr_book_side(to, side), tr_book_side_read(from, side),
               (size_t)n * sizeof(struct tr_level_pair));
        copy->count[tr_book_side_index(side)] = n;
    }
    return 0;
}

void tr_book_top(const void *book, int64_t *out4)
{
    for (int64_t i = 0; i < 2; i++) {
        const int64_t side = i == 0 ? TR_BID : TR_ASK;
        const int64_t n = tr_book_count(book, side);
        const struct tr_level_pair *levels = tr_book_side_read(book, side);
        out4[2 * i] = n ? levels[n - 1].price : 0;
        out4[2 * i + 1] = n ? levels[n - 1].qty : 0;
    }
}

int64_t tr_book_depth(const void *book, int64_t side, int64_t n, int64_t *out_pairs)
{
    const int64_t count = tr_book_count(book, side);
    const struct tr_level_pair *levels = tr_book_side_read(book, side);
    const int64_t wanted = n < count ? n : count;
    for (int64_t i = 0; i < wanted; i++) {
        out_pairs[2 * i] = levels[count - 1 - i].price;
        out_pairs[2 * i + 1] = levels[count - 1 - i].qty;
    }
    return wanted > 0 ? wanted : 0;
}

int64_t tr_book_truncate(void *book, int64_t side, int64_t depth, int64_t *out_cut_prices)
{
    struct tr_book_header *h = book;
    struct tr_level_pair *levels = tr_book_side(book, side);
    const int64_t n = tr_book_count(book, side);
    const int64_t cut = n - depth;
    if (cut <= 0 || depth < 0)
        return 0;
    for (int64_t i = 0; out_cut_prices && i < cut; i++)
        out_cut_prices[i] = levels[i].price;
    memmove(levels, levels + cut, (size_t)depth * sizeof *levels);
    h->count[tr_book_side_index(side)] = depth;
    BOOK_IS_SOUND(book);
    return cut;
}

int64_t tr_book_levels(const void *book, int64_t side) { return tr_book_count(book, side); }

int64_t tr_book_capacity(const void *book) { return ((const struct tr_book_header *)book)->capacity; }

int64_t tr_book_crossed(const void *book)
{
    int64_t top[4];
    tr_book_top(book, top);
    return top[1] > 0 && top[3] > 0 && top[0] >= top[2];
}

int64_t tr_book_check(const void *book)
{
    const struct tr_book_header *h = book;
    if (h->magic != TR_BOOK_MAGIC)
        return 4;
    for (int64_t side = TR_ASK; side <= TR_BID; side += 2) {
        const struct tr_level_pair *levels = tr_book_side_read(book, side);
        const int64_t n = tr_book_count(book, side);
        if (n < 0 || n > h->capacity)
            return 1;
        for (int64_t i = 0; i < n; i++) {
            if (i > 0 && levels[i].price * side <= levels[i - 1].price * side)
                return 2;
            if (levels[i].qty <= 0)
                return 3;
        }
    }
    return 0;
}
