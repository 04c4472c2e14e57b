/* The only loads and stores of shared words, and the two builds that prove them.
 *
 * Release build: payload words move by relaxed (plain) copies between the fences P2 and R4.
 * TR_FENCE_FREE build: each payload word is a release store or an acquire load and there is no fence, so that
 * ThreadSanitizer, which does not model fences, sees every edge. Both are proved by the litmus tests.
 * TR_HOOKS build: TR_HOOK(step, seq) calls out, so that a test can stop or kill the process exactly there.
 */
#ifndef TICKRING_ATOMICS_H
#define TICKRING_ATOMICS_H

#include <stdatomic.h>
#include <stdint.h>

#define TR_LOAD_RELAXED(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define TR_LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define TR_STORE_RELAXED(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define TR_STORE_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

#ifdef TR_FENCE_FREE
#define TR_FENCE_RELEASE() ((void)0)
#define TR_FENCE_ACQUIRE() ((void)0)
#define TR_STAMP_ODD(p, v) TR_STORE_RELEASE(p, v)
#define TR_PAYLOAD_STORE(p, v) TR_STORE_RELEASE(p, v)
#define TR_PAYLOAD_LOAD(p) TR_LOAD_ACQUIRE(p)
#else
#define TR_FENCE_RELEASE() __atomic_thread_fence(__ATOMIC_RELEASE)
#define TR_FENCE_ACQUIRE() __atomic_thread_fence(__ATOMIC_ACQUIRE)
#define TR_STAMP_ODD(p, v) TR_STORE_RELAXED(p, v)
#define TR_PAYLOAD_STORE(p, v) TR_STORE_RELAXED(p, v)
#define TR_PAYLOAD_LOAD(p) TR_LOAD_RELAXED(p)
#endif

#ifdef TR_HOOKS
extern void tr_hook(int step, int64_t seq);
enum tr_step { TR_P0, TR_P1, TR_P2, TR_P3, TR_P3_HALF, TR_P4, TR_P5, TR_R1, TR_R3, TR_R4, TR_R5, TR_W1, TR_W2, TR_W3, TR_J1, TR_J2, TR_J3, TR_P6 };
#define TR_HOOK(step, seq) tr_hook((step), (seq))
#else
#define TR_HOOK(step, seq) ((void)0)
#endif

#define TR_LIKELY(x) __builtin_expect(!!(x), 1)
#define TR_UNLIKELY(x) __builtin_expect(!!(x), 0)
#define TR_COLD __attribute__((noinline, cold))

static inline void tr_pause(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
