/* The book's exported calls; `side` is +1 for bids, -1 for asks. Reached by cffi, and from njit code by name. */
#ifndef TICKRING_BOOK_API_H
#define TICKRING_BOOK_API_H
#include <stdint.h>

/* Bytes for a book of `capacity` levels a side; -1 where capacity is < 1 or beyond 2^32. */
int64_t tr_book_bytes(int64_t capacity);

/* Make an empty book of `tr_book_bytes(capacity)` bytes, 8-byte aligned. */
void tr_book_init(void *book, int64_t capacity);

/* Forget every level. */
void tr_book_clear(void *book);

/* Set a level; qty <= 0 deletes. -1 FULL (grow with tr_book_copy), 0 SAME, 1 CHANGED, 2 TOP, 3 ABSENT. */
int64_t tr_book_apply(void *book, int64_t side, int64_t price, int64_t qty);

/* tr_book_apply that also tells told[0] the level's distance from the best (0: it is the best; right below 64, and at
   least 64 beyond) and told[1] the qty that stood there before (0: none). */
int64_t tr_book_apply_told(void *book, int64_t side, int64_t price, int64_t qty, int64_t *told);

/* Replace one side by `n` {price, qty} pairs in any order; of equal prices the last counts; qty <= 0 is left out.
   `pairs` is scratch and may be reordered. Returns the levels held, or -1 FULL and the side unchanged. */
int64_t tr_book_load(void *book, int64_t side, int64_t *pairs, int64_t n);

/* Copy a book into other memory of `to_capacity` levels; -1 when it does not fit. */
int64_t tr_book_copy(void *to, int64_t to_capacity, const void *from);

/* bid_price, bid_qty, ask_price, ask_qty; zeros where a side is empty. */
void tr_book_top(const void *book, int64_t *out4);

/* Up to `n` {price, qty} pairs of one side, best first; returns how many. */
int64_t tr_book_depth(const void *book, int64_t side, int64_t n, int64_t *out_pairs);

/* Drop the levels of one side beyond the best `depth`; their prices, worst first, go to `out_cut_prices`
   (room for count - depth; NULL to discard). Returns how many. */
int64_t tr_book_truncate(void *book, int64_t side, int64_t depth, int64_t *out_cut_prices);

int64_t tr_book_levels(const void *book, int64_t side);
int64_t tr_book_capacity(const void *book);

/* 1 when both sides hold a level and the best bid is at or above the best ask. */
int64_t tr_book_crossed(const void *book);

/* 0 when the invariants hold, else the number of the broken one (1: B1, 2: B2, 3: B3, 4: no magic, 5: B4). */
int64_t tr_book_check(const void *book);
#endif
