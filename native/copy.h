/* How a record's words move between a slot and private memory: 8-byte atomics where they must be seen, vectors where they pay.
 *
 * Why it is right. A vector move may be seen in pieces, but each aligned 8-byte word of it whole (x86-64 and AArch64
 * keep that for aligned vector accesses); the protocol needs no more, because R5 judges the record as a whole. The
 * accesses are volatile, so that the compiler neither repeats nor removes them, and stay between the fences around them.
 * Cost. 1,664 bytes from L1: 8-byte loop 72 ns, 16-byte vectors 17 ns, 32-byte vectors 10 ns (chosen once at load).
 */
#ifndef TICKRING_COPY_H
#define TICKRING_COPY_H

#include "atomics.h"

typedef long long tr_vector __attribute__((vector_size(16), aligned(8), may_alias));
typedef long long tr_wide __attribute__((vector_size(32), aligned(8), may_alias));

/* Copies n_bytes, a multiple of 64, by the widest vectors of this machine. Not for the first 64 bytes of a record. */
extern void (*tr_store_vectors)(void *slot, const void *record, int64_t n_bytes);
extern void (*tr_load_vectors)(void *record, const void *slot, int64_t n_bytes);

/* Words 1 .. stride/8-1: word 0 is the stamp, which travels on its own. Strides are multiples of 64. */
static inline void tr_store_record(int64_t *slot, const int64_t *record, int64_t stride) {
#if defined(TR_FENCE_FREE) || defined(TR_HOOKS)
    for (int64_t i = 1; i < stride / 8; i++) {
        TR_PAYLOAD_STORE(slot + i, record[i]);
        if (i == stride / 16) TR_HOOK(TR_P3_HALF, TR_LOAD_RELAXED(slot) / 2);
    }
#else
    volatile tr_vector *to = (volatile tr_vector *)(slot + 2);
    const tr_vector *from = (const tr_vector *)(record + 2);
    TR_PAYLOAD_STORE(slot + 1, record[1]);
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
    if (TR_UNLIKELY(stride > 64)) tr_store_vectors(slot + 8, record + 8, stride - 64);
#endif
}

/* Stores one word of each line but the first over itself: a prefetch for writing leaves a line shared that is held already. */
void tr_own_lines(int64_t *slot, int64_t stride);

static inline void tr_load_record(int64_t *record, const int64_t *slot, int64_t stride) {
#if defined(TR_FENCE_FREE) || defined(TR_HOOKS)
    for (int64_t i = 1; i < stride / 8; i++) record[i] = TR_PAYLOAD_LOAD(slot + i);
#else
    const volatile tr_vector *from = (const volatile tr_vector *)(slot + 2);
    tr_vector *to = (tr_vector *)(record + 2);
    record[1] = TR_PAYLOAD_LOAD(slot + 1);
    to[0] = from[0];
    to[1] = from[1];
    to[2] = from[2];
    if (TR_UNLIKELY(stride > 64)) tr_load_vectors(record + 8, slot + 8, stride - 64);
#endif
}

#endif
