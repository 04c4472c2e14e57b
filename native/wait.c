/* The cold half of wait.h (steps W1 to W4 and B2), and the clocks. */
#define _GNU_SOURCE
#include "wait.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ring_api.h"

#ifndef __NR_futex_waitv
#define __NR_futex_waitv 449
#endif
#define TR_FUTEX_32 2 /* size flag of struct futex_waitv; shared, so no private flag */
#define TR_WAIT_RINGS 64
#define TR_YIELDS 4

struct tr_futex_waitv { /* struct futex_waitv of <linux/futex.h>, absent from older headers */
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};

int64_t tr_now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

int64_t tr_monotonic_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Sleeps until spin_ns before an instant of the steady clock, then spins; returns how late it is, or how early (below 0) where
   a signal came. The thread's timer slack, 50 us, is put aside for the sleep. */
int64_t tr_wait_until(int64_t due_ns, int64_t spin_ns) {
    int64_t late = tr_monotonic_ns() - due_ns;
    if (late < -spin_ns) {
        int64_t until = due_ns - spin_ns;
        struct timespec t = {until / 1000000000LL, until % 1000000000LL};
        int slack = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
        prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
        int interrupted = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) != 0;
        if (slack > 0) prctl(PR_SET_TIMERSLACK, slack, 0, 0, 0);
        late = tr_monotonic_ns() - due_ns;
        if (interrupted) return late;
    }
    while (late < 0) {
        tr_pause();
        late = tr_monotonic_ns() - due_ns;
    }
    return late;
}

/* Makes this process one that W2 reaches. 0, or -errno where the kernel denies it. */
int64_t tr_wait_register(void) {
    return syscall(__NR_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0 ? 0 : -errno;
}

/* Step B2. Not inlined, so that publish stays free of locked instructions. */
TR_COLD void tr_wake(struct tr_control *control) {
    int64_t mask = __atomic_exchange_n(&control->sleepers, 0, __ATOMIC_SEQ_CST);
    for (int64_t i = 0; i < TR_CONSUMERS; i++) {
        if (!(mask >> i & 1)) continue;
        TR_STORE_RELEASE(&control->entry[i].sleep_word, 0);
        syscall(__NR_futex, &control->entry[i].sleep_word, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

int64_t tr_lock_memory(void *address, int64_t n_bytes) { return mlock(address, (size_t)n_bytes) == 0 ? 0 : -errno; }

static int tr_any_ready(tr_reader *const *readers, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        const tr_reader *r = readers[i];
        if (TR_LOAD_ACQUIRE(tr_stamp(r->slots, r->mask, r->stride, r->next)) >= 2 * r->next + 2) return 1;
    }
    return 0;
}

static int64_t tr_arm(struct tr_control *control, int64_t entry) {
    TR_STORE_RELEASE(&control->entry[entry].sleep_word, 1); /* W1 */
    __atomic_fetch_or(&control->sleepers, 1LL << entry, __ATOMIC_SEQ_CST);
    return TR_LOAD_RELAXED(&control->membarrier_ready);
}

static void tr_disarm(struct tr_control *control, int64_t entry) {
    TR_STORE_RELEASE(&control->entry[entry].sleep_word, 0);
    __atomic_fetch_and(&control->sleepers, ~(1LL << entry), __ATOMIC_SEQ_CST);
}

static void tr_nap(int64_t nap_ns) {
    struct timespec t = {nap_ns / 1000000000LL, nap_ns % 1000000000LL};
    nanosleep(&t, NULL);
}

/* True: somebody woke us, or a signal came. */
static int tr_futex_wait(void *const *controls, const int64_t *entries, int64_t n, int64_t sleep_ns) {
    struct tr_futex_waitv words[TR_WAIT_RINGS];
    for (int64_t i = 0; i < n; i++) {
        struct tr_control *control = controls[i];
        words[i] = (struct tr_futex_waitv){1, (uint64_t)(uintptr_t)&control->entry[entries[i]].sleep_word, TR_FUTEX_32, 0};
    }
    int64_t until = tr_monotonic_ns() + sleep_ns; /* futex_waitv takes an absolute time */
    struct timespec t = {until / 1000000000LL, until % 1000000000LL};
    if (syscall(__NR_futex_waitv, words, (unsigned)n, 0, &t, CLOCK_MONOTONIC) >= 0) return 1;
    if (errno == ENOSYS || errno == EPERM) tr_nap(sleep_ns < TR_SHORT_SLEEP_NS ? sleep_ns : TR_SHORT_SLEEP_NS);
    return errno == EINTR;
}

static int tr_sleep(tr_reader *const *readers, void *const *controls, const int64_t *entries, int64_t n, int64_t sleep_ns) {
    int64_t registered = 1;
    TR_HOOK(TR_W1, 0);
    for (int64_t i = 0; i < n; i++) registered &= tr_arm(controls[i], entries[i]);
    TR_HOOK(TR_W2, 0);
    if (!registered || syscall(__NR_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) != 0) { /* W2 */
        if (sleep_ns > TR_SHORT_SLEEP_NS) sleep_ns = TR_SHORT_SLEEP_NS;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
    TR_HOOK(TR_W3, 0);
    int woken = !tr_any_ready(readers, n) && tr_futex_wait(controls, entries, n, sleep_ns); /* W3, W4 */
    for (int64_t i = 0; i < n; i++) tr_disarm(controls[i], entries[i]);
    return woken;
}

/* Spins for spin_ns, yields a few times, then sleeps until a record, a wake or the time-out; without .ctl it naps. */
int64_t tr_wait_many(tr_reader *const *readers, void *const *controls, const int64_t *entries, int64_t n, int64_t spin_ns, int64_t timeout_ns) {
    if (n < 1 || n > TR_WAIT_RINGS) return TR_BAD_ARGUMENT;
    int64_t start = tr_monotonic_ns();
    int64_t passed = 0;
    do {
        for (int i = 0; i < 64; i++) {
            if (tr_any_ready(readers, n)) return 1;
            tr_pause();
        }
        passed = tr_monotonic_ns() - start;
    } while (passed < spin_ns && passed < timeout_ns);
    for (int i = 0; i < TR_YIELDS; i++) {
        if (tr_any_ready(readers, n)) return 1;
        sched_yield();
    }
    while ((passed = tr_monotonic_ns() - start) < timeout_ns) {
        if (tr_any_ready(readers, n)) return 1;
        int64_t left = timeout_ns - passed;
        if (controls == NULL) {
            tr_nap(left < TR_SHORT_SLEEP_NS ? left : TR_SHORT_SLEEP_NS);
        } else if (tr_sleep(readers, controls, entries, n, left < TR_SLEEP_NS ? left : TR_SLEEP_NS)) {
            break; /* a record, a signal, or a producer that stopped: the caller looks */
        }
    }
    return tr_any_ready(readers, n);
}
