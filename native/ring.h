/* One producer, one ring: publish never waits ("overwrite") or never loses ("wait"); read is never torn.
 *
 * Protocol. Slot of seq n: n & mask. Its stamp is 2n+1 while seq n is being written, 2n+2 when it is complete.
 *
 *   publish(n)                                          read(n)
 *   P0  "wait" mode only: room? else rescan             R1  s <- stamp                       acquire
 *   P1  stamp <- 2n+1              relaxed              R2  s < 2n+2: EMPTY;  s > 2n+2: LAPPED
 *   P2  fence                      release              R3  copy the record                  relaxed words
 *   P3  copy the record            relaxed words        R4  fence                            acquire
 *   P4  stamp <- 2n+2              release              R5  stamp != s: LAPPED, the copy is garbage
 *   P5  head  <- n+1               release                  else OK
 *   P6  own the lines of slot n+1                           (records of more than one line)
 *
 * Why it is right. A reader that copies any word of seq n+slots reads it after P2 of that write, so its fence R4 makes
 * P1's odd stamp (or a later one) visible to R5. Head is stored after every record, also inside a batch: a reader
 * of a whole range (tr_read_many) copies, fences, and keeps what has seq + slots > head; the release fence P2 of seq n
 * follows P5 of seq n-1, so whoever saw a word of seq n sees head >= n. P1 alone stands before that fence: the oldest
 * record kept may carry the odd stamp of the next write over its own, so tr_read_many writes that stamp itself.
 * P6 stores into one word of each line of the next slot, but of its first, the value that the producer itself put there a
 * lap ago: no reader can tell, and the lines are the producer's again, so that the next P3 need not fetch 25 of them from the
 * reader of a lap ago (its first line is the one that is polled now).
 * Assumed of the hardware: an aligned 8-byte access is single-copy atomic (x86-64, AArch64). Proved, and each order
 * shown to be needed: tests/test_native_litmus.py; crashes: tests/test_native_crash_model.py.
 *
 * Failure. The producer may die at any step: the slot it was in keeps an odd or old stamp, which every reader takes
 * for EMPTY; its successor walks forward from head over complete slots (slots are the truth, head a hint that may
 * trail by one) and rewrites that slot. A consumer may die at any step: its cursor is the seq it can restart from.
 *
 * Threads and processes. One producer process, one thread. tr_reader and tr_producer are private memory.
 * Cost. 64-byte record: 9 stores and one load of the sleepers word; no fence instruction on x86-64. P6 costs the producer
 * 25 loads and stores a 1,664-byte record after it is out, and takes 40 % off the hop (bench/README.md).
 */
#ifndef TICKRING_RING_H
#define TICKRING_RING_H

#include <string.h>

#include "atomics.h"
#include "copy.h"
#include "region.h"

enum tr_status {
    TR_OK = 1,
    TR_EMPTY = 0,
    TR_LAPPED = -1,
    TR_WOULD_BLOCK = -2, /* "wait" mode: no room before the time-out, or a required consumer is not there */
    TR_SEQ_EXHAUSTED = -3,
    TR_BAD_ARGUMENT = -4,
    TR_NO_ENTRY = -5,
    TR_TAKEN = -6
};

enum tr_fault { TR_FAULT_NONE = 0, TR_FAULT_CHECKSUM = 1, TR_FAULT_PADDING = 2, TR_FAULT_HEAD = 3 };

typedef struct tr_producer {
    struct tr_data *data;
    struct tr_control *control; /* NULL: a ring without registered consumers */
    uint8_t *slots;
    int64_t mask;
    int64_t stride;
    int64_t next;  /* seq to publish next */
    int64_t limit; /* first seq that may not be published without a rescan */
    int64_t mode;
    int64_t timeout_ns; /* "wait" mode: how long publish waits for room */
} tr_producer;

typedef struct tr_reader {
    const struct tr_data *data;
    const uint8_t *slots;
    int64_t mask;
    int64_t stride;
    int64_t next;      /* seq to read next */
    int64_t lost_from; /* the last loss: first and last seq that were overwritten before they were read */
    int64_t lost_to;
    int64_t lost_total; /* records lost since attach */
    int64_t rejoin;     /* after a loss go on at: 0 the newest record, k > 0: slots / k behind the head */
} tr_reader;

static inline int64_t *tr_stamp(const uint8_t *slots, int64_t mask, int64_t stride, int64_t seq) {
    return (int64_t *)(uintptr_t)(slots + (seq & mask) * stride);
}

/* Steps P1 to P5 for seq n; the caller has done P0, and sets p->next. */
static inline void tr_write_slot(const tr_producer *p, int64_t n, const int64_t *record) {
    int64_t *slot = tr_stamp(p->slots, p->mask, p->stride, n);
    TR_HOOK(TR_P1, n);
    TR_STAMP_ODD(slot, 2 * n + 1); /* P1 */
    TR_HOOK(TR_P2, n);
    TR_FENCE_RELEASE(); /* P2 */
    TR_HOOK(TR_P3, n);
    tr_store_record(slot, record, p->stride); /* P3 */
    TR_HOOK(TR_P4, n);
    TR_STORE_RELEASE(slot, 2 * n + 2); /* P4 */
    TR_HOOK(TR_P5, n);
    TR_STORE_RELEASE(&p->data->head, n + 1); /* P5 */
}

/* Step P6, after record n is out and its consumer awake. */
static inline void tr_own_next(const tr_producer *p, int64_t n) {
    if (TR_UNLIKELY(p->stride > 64)) {
        TR_HOOK(TR_P6, n);
        tr_own_lines(tr_stamp(p->slots, p->mask, p->stride, n + 1), p->stride);
    }
}

/* Steps R1 to R5 for the slot of `seq`; `record` is garbage unless TR_OK is returned. */
static inline int64_t tr_read_slot(const tr_reader *r, int64_t seq, int64_t *record) {
    const int64_t *slot = tr_stamp(r->slots, r->mask, r->stride, seq);
    TR_HOOK(TR_R1, seq);
    int64_t stamp = TR_LOAD_ACQUIRE(slot); /* R1 */
    if (stamp != 2 * seq + 2) return stamp < 2 * seq + 2 ? TR_EMPTY : TR_LAPPED; /* R2 */
    TR_HOOK(TR_R3, seq);
    tr_load_record(record, slot, r->stride); /* R3 */
    TR_HOOK(TR_R4, seq);
    TR_FENCE_ACQUIRE(); /* R4 */
    TR_HOOK(TR_R5, seq);
    if (TR_UNLIKELY(TR_LOAD_RELAXED(slot) != stamp)) return TR_LAPPED; /* R5 */
    record[0] = stamp;
    return TR_OK;
}

#endif
