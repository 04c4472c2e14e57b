/* The vector loops of copy.h, one for each width, the choice between them when the library is loaded, and step P6. */
#include "copy.h"

static void tr_store_vectors_16(void *slot, const void *record, int64_t n_bytes) {
    volatile tr_vector *to = slot;
    const tr_vector *from = record;
    for (int64_t i = 0; i < n_bytes / 16; i++) to[i] = from[i];
}

static void tr_load_vectors_16(void *record, const void *slot, int64_t n_bytes) {
    const volatile tr_vector *from = slot;
    tr_vector *to = record;
    for (int64_t i = 0; i < n_bytes / 16; i++) to[i] = from[i];
}

void (*tr_store_vectors)(void *slot, const void *record, int64_t n_bytes) = tr_store_vectors_16;
void (*tr_load_vectors)(void *record, const void *slot, int64_t n_bytes) = tr_load_vectors_16;

void tr_own_lines(int64_t *slot, int64_t stride) {
    for (int64_t i = 8; i < stride / 8; i += 8) TR_PAYLOAD_STORE(slot + i, TR_PAYLOAD_LOAD(slot + i));
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static void tr_store_vectors_32(void *slot, const void *record, int64_t n_bytes) {
    volatile tr_wide *to = slot;
    const tr_wide *from = record;
    for (int64_t i = 0; i < n_bytes / 32; i += 2) {
        tr_wide low = from[i], high = from[i + 1];
        to[i] = low;
        to[i + 1] = high;
    }
}

__attribute__((target("avx2"))) static void tr_load_vectors_32(void *record, const void *slot, int64_t n_bytes) {
    const volatile tr_wide *from = slot;
    tr_wide *to = record;
    for (int64_t i = 0; i < n_bytes / 32; i += 2) {
        tr_wide low = from[i], high = from[i + 1];
        to[i] = low;
        to[i + 1] = high;
    }
}

__attribute__((constructor)) static void tr_choose_vectors(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
        tr_store_vectors = tr_store_vectors_32;
        tr_load_vectors = tr_load_vectors_32;
    }
}
#endif
