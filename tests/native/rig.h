/* A ring in anonymous shared memory for the C harnesses, and records whose every word is known from their seq. */
#ifndef TICKRING_TESTS_RIG_H
#define TICKRING_TESTS_RIG_H

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ring_api.h"

#define RIG_STRIDE_LIMIT 2048
#define RIG_MIX 0x9E3779B97F4A7C15ULL

struct rig {
    void *data;
    void *control;
    int64_t stride;
    int64_t slots;
    int64_t epoch; /* of the newest producer */
};

static void *rig_memory(int64_t n_bytes) {
    void *memory = mmap(NULL, (size_t)n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) abort();
    return memory;
}

static struct rig rig_make(int64_t stride, int64_t slots, int64_t mode) {
    static const uint8_t identity[16];
    struct rig rig = {NULL, NULL, stride, slots, 0};
    rig.data = rig_memory(tr_data_bytes(stride, slots, 1));
    rig.control = rig_memory(tr_control_bytes());
    if (tr_data_init(rig.data, stride, slots, mode, "x", 1, identity, identity, identity, 1, 1) != TR_OK) abort();
    tr_data_commit(rig.data);
    tr_control_init(rig.control, identity);
    tr_control_commit(rig.control);
    return rig;
}

static tr_producer rig_producer(struct rig *rig, int64_t timeout_ns) {
    tr_producer producer;
    tr_producer_open(&producer, rig->data, rig->control, timeout_ns);
    if (tr_producer_take_epoch(&producer, ++rig->epoch, getpid(), 1, 1) != TR_OK) abort();
    return producer;
}

static tr_reader rig_reader(const struct rig *rig) {
    tr_reader reader;
    tr_reader_open(&reader, rig->data);
    return reader;
}

/* Word 1 carries the epoch; every other word but the stamp is a mix of seq, epoch and its place. Word 2 is a ts_recv far in
 * the future and the upper half of word 3 a publish delta of 0, which is what tr_publish_batch makes of it. */
static inline int64_t rig_word(int64_t seq, int64_t epoch, int64_t i) {
    return (int64_t)(((uint64_t)seq + ((uint64_t)epoch << 48)) * RIG_MIX + (uint64_t)i);
}

static inline int64_t rig_ts_recv(int64_t seq, int64_t epoch) { return (rig_word(seq, epoch, 2) & INT64_MAX) | 1LL << 62; }
static inline int64_t rig_low_half(int64_t seq, int64_t epoch) { return rig_word(seq, epoch, 3) & UINT32_MAX; }

static inline void rig_fill(int64_t *record, int64_t stride, int64_t seq, int64_t epoch) {
    record[1] = epoch;
    record[2] = rig_ts_recv(seq, epoch);
    record[3] = rig_low_half(seq, epoch);
    for (int64_t i = 4; i < stride / 8; i++) record[i] = rig_word(seq, epoch, i);
}

/* True when every word is that of seq, in one and the same incarnation. */
static inline int rig_is_whole(const int64_t *record, int64_t stride, int64_t seq) {
    int64_t wrong = record[0] ^ (2 * seq + 2);
    wrong |= (record[2] ^ rig_ts_recv(seq, record[1])) | (record[3] ^ rig_low_half(seq, record[1]));
    for (int64_t i = 4; i < stride / 8; i++) wrong |= record[i] ^ rig_word(seq, record[1], i);
    return wrong == 0;
}

static inline uint64_t rig_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static inline int64_t rig_argument(char **arguments, int n, int at, int64_t otherwise) {
    return at < n ? atoll(arguments[at]) : otherwise;
}

#endif
