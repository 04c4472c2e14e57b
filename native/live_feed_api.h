/* What other venues than Kraken need of a live book beyond live_api.h. Code: native/live.c, native/live_feed.c. */
#ifndef TICKRING_LIVE_FEED_API_H
#define TICKRING_LIVE_FEED_API_H
#include "live_api.h"

/* Further `flags` of tr_live_rows: the checksum is OKX's; the first text holds both sides, each row naming its own. */
enum tr_row_flags {
    TR_FLAG_CHECKSUM_OKX = 8,
    TR_FLAG_BOTH_SIDES = 16
};

/* tr_live_levels for rows of native/row_text.h. `time` may also be a whole number of s, ms, us or ns (told by its
   magnitude); with 0 bytes it is the last row's own. `venue_seq` goes into the LEVEL records. An update with more
   decimals than the version is WIDER when the book can be widened: call tr_live_widen, then this again. */
int64_t tr_live_rows(tr_live *l, int64_t flags, const char *bids, int64_t bids_bytes, const char *asks, int64_t asks_bytes, const char *time, int64_t time_bytes, int64_t checksum, int64_t venue_seq, int64_t ts_recv);

/* Whether the wanted scales are wider than the version's and a valid book's numbers fit them. */
int64_t tr_live_fits_wanted(tr_live *l);

/* Take up a version with more decimals without losing the book: it is rescaled and published as a snapshot of the new
   version. Without a valid book a STATE record tells the version. */
int64_t tr_live_widen(tr_live *l, int64_t version, int64_t price_scale, int64_t qty_scale, int64_t ts_recv);

/* The venue's numbers that the next GAP record of this instrument names as missing. */
void tr_live_gap_edges(tr_live *l, int64_t venue_from, int64_t venue_to);

/* Compare a venue's best bid and ask with `top` (as tr_book_top gives it): 1 equal, 0 not, -1 a number is none.
   A text of 0 bytes is not compared. Order: bid price, bid qty, ask price, ask qty. */
int64_t tr_live_top_is(tr_live *l, const int64_t *top, const char *bid_price, int64_t n0, const char *bid_qty, int64_t n1, const char *ask_price, int64_t n2, const char *ask_qty, int64_t n3);

/* The checksum of OKX over the book's 25 best levels a side, as the signed number that it sends. */
int64_t tr_live_crc_okx(tr_live *l);

/* Add to a count that is kept outside C: frames that a snapshot had made stale, the venue's oracle. */
void tr_outlet_tally(tr_outlet *o, int64_t what, int64_t n);
#endif
