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
    for (int i = 0; i < 2; i++)
        h->count[i] = h->used[i] = h->solid[i] = 0;
}

/* ---- holes ---- */

/* Move the levels of the slots from `first` on together, to `to`. */
static void gather(void *book, int64_t side, int64_t first, int64_t to)
{
    struct tr_book_header *h = book;
    const int64_t i = tr_book_side_index(side);
    struct tr_level_pair *slots = tr_book_side(book, side);
    int64_t kept = to;
    for (int64_t k = first; k < h->used[i]; k++) {
        slots[kept] = slots[k];
        kept += slots[k].qty > 0;
    }
    h->used[i] = kept;
    h->solid[i] = kept - to;
}

void tr_book_squeeze(void *book, int64_t side) { gather(book, side, 0, 0); }

void tr_book_solidify(void *book, int64_t side)
{
    const struct tr_level_pair *slots = tr_book_side_read(book, side);
    int64_t first = tr_book_used(book, side);
    int64_t wanted = 2 * TR_BOOK_SOLID; /* twice what is needed, so that the next time is far off */
    if (tr_book_count(book, side) <= wanted) {
        tr_book_squeeze(book, side);
        return;
    }
    while (wanted > 0)
        wanted -= slots[--first].qty > 0;
    gather(book, side, first, first);
}

int64_t tr_book_apply(void *book, int64_t side, int64_t price, int64_t qty)
{
    int64_t told[2];
    return tr_book_apply_told(book, side, price, qty, told);
}

int64_t tr_book_apply_told(void *book, int64_t side, int64_t price, int64_t qty, int64_t *told)
{
    const int64_t place = tr_book_find(tr_book_side_read(book, side), tr_book_used(book, side), side, price);
    const int64_t change = tr_book_apply_at(book, side, price, qty, place, &told[0], &told[1]);
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
    const int64_t i = tr_book_side_index(side);
    h->count[i] = h->used[i] = h->solid[i] = kept;
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
        const int64_t n = tr_book_used(from, side);
        const struct tr_level_pair *slots = tr_book_side_read(from, side);
        struct tr_level_pair *levels = tr_book_side(to, side);
        int64_t kept = 0;
        for (int64_t k = 0; k < n; k++)
            if (slots[k].qty > 0)
                levels[kept++] = slots[k];
        const int64_t i = tr_book_side_index(side);
        copy->count[i] = copy->used[i] = copy->solid[i] = kept;
    }
    return 0;
}

void tr_book_top(const void *book, int64_t *out4)
{
    for (int64_t i = 0; i < 2; i++) {
        const int64_t side = i == 0 ? TR_BID : TR_ASK;
        const int64_t n = tr_book_used(book, side);
        const struct tr_level_pair *levels = tr_book_side_read(book, side);
        out4[2 * i] = n ? levels[n - 1].price : 0;
        out4[2 * i + 1] = n ? levels[n - 1].qty : 0;
    }
}

int64_t tr_book_depth(const void *book, int64_t side, int64_t n, int64_t *out_pairs)
{
    const struct tr_level_pair *slots = tr_book_side_read(book, side);
    int64_t given = 0;
    for (int64_t k = tr_book_used(book, side) - 1; k >= 0 && given < n; k--) {
        out_pairs[2 * given] = slots[k].price;
        out_pairs[2 * given + 1] = slots[k].qty;
        given += slots[k].qty > 0;
    }
    return given;
}

int64_t tr_book_truncate(void *book, int64_t side, int64_t depth, int64_t *out_cut_prices)
{
    struct tr_book_header *h = book;
    struct tr_level_pair *slots = tr_book_side(book, side);
    const int64_t i = tr_book_side_index(side);
    const int64_t cut = h->count[i] - depth;
    if (cut <= 0 || depth < 0)
        return 0;
    int64_t first = 0;
    for (int64_t found = 0; found < cut; first++) {
        if (slots[first].qty == 0)
            continue;
        if (out_cut_prices)
            out_cut_prices[found] = slots[first].price;
        found++;
    }
    h->used[i] -= first;
    memmove(slots, slots + first, (size_t)h->used[i] * sizeof *slots);
    h->count[i] = depth;
    h->solid[i] = h->solid[i] < h->used[i] ? h->solid[i] : h->used[i];
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

static int64_t check_side(const void *book, int64_t side)
{
    const struct tr_book_header *h = book;
    const int64_t i = tr_book_side_index(side);
    const struct tr_level_pair *slots = tr_book_side_read(book, side);
    const int64_t used = h->used[i];
    const int64_t solid = h->solid[i];
    int64_t count = 0;
    if (used < 0 || used > h->capacity)
        return 1;
    if (solid < 0 || solid > used || (solid < TR_BOOK_SOLID && solid < used))
        return 5;
    for (int64_t k = 0; k < used; k++) {
        if (k > 0 && slots[k].price * side <= slots[k - 1].price * side)
            return 2;
        if (slots[k].qty < 0 || (slots[k].qty == 0 && k >= used - solid))
            return 3;
        count += slots[k].qty > 0;
    }
    return count == h->count[i] ? 0 : 1;
}

int64_t tr_book_check(const void *book)
{
    const struct tr_book_header *h = book;
    if (h->magic != TR_BOOK_MAGIC)
        return 4;
    for (int64_t side = TR_ASK; side <= TR_BID; side += 2) {
        const int64_t fault = check_side(book, side);
        if (fault)
            return fault;
    }
    return 0;
}
