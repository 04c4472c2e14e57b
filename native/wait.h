/* Sleep and wake: no fence in the producer, no wake-up lost.
 *
 * Protocol. A consumer about to sleep:              The producer after a publish:
 *   W1  sleep_word <- 1, sleepers |= own bit          P4, P5  stamp, head
 *   W2  membarrier(GLOBAL_EXPEDITED)                  B1      sleepers == 0: done    (one relaxed load)
 *   W3  re-check the stamps of its rings              B2      take the bits, sleep_word <- 0, FUTEX_WAKE
 *   W4  FUTEX_WAIT(sleep_word == 1), at most 100 ms
 *
 * Why it is right. W2 is a full barrier on every core that runs a registered process. If it falls before the producer's
 * P4, B1 comes after it and sees the bit of W1; if it falls after P4, W3 sees the stamp. B1 must not be moved before P4 by
 * the compiler (signal fence). Where the producer could not register, or the kernel denies membarrier, W4 is bounded by 1 ms.
 *
 * A consumer of several rings has one sleep_word in each ring's .ctl and waits on all of them with one futex_waitv
 * (Linux 5.16), so that no producer needs to map a consumer's memory; older kernels sleep in steps of 1 ms.
 */
#ifndef TICKRING_WAIT_H
#define TICKRING_WAIT_H

#include "ring.h"

#define TR_SLEEP_NS 100000000LL
#define TR_SHORT_SLEEP_NS 1000000LL

void tr_wake(struct tr_control *control);

/* Step B1. */
static inline void tr_ring_bell(const tr_producer *p) {
    if (p->control) {
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        if (TR_UNLIKELY(TR_LOAD_RELAXED(&p->control->sleepers) != 0)) tr_wake(p->control);
    }
}

#endif
