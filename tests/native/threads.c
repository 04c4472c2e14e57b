/* Threads over one ring: `wait` proves every edge to ThreadSanitizer, `torn` and `exact` count under lapping.
 *
 * threads wait  <records> <consumers>       lossless; a plain array beside the ring changes hands with each record
 * threads torn  <reads> <seconds> <stride> <collisions>  a reader where the producer writes: torn must be 0; it ends after
 *                                           so many reads with so many collisions, or when its seconds are over
 * threads exact <records> <stride>          readers that fall behind: read + lost = published
 * One line of "name value" pairs; exit status 0 unless a call itself failed.
 */
#define _GNU_SOURCE
#include "rig.h"

#include <sched.h>

#define SLOTS 1024
#define BATCH 32
#define READERS 3

static struct rig rig;
static int64_t total;
static int64_t beside[SLOTS]; /* plain on purpose: only the ring's own edges make its use right */
static int64_t bad_words, bad_beside, lost_records;
static int64_t stop;

static void *wait_producer(void *unused) {
    (void)unused;
    uint64_t random = 88172645463325252ULL;
    tr_producer producer = rig_producer(&rig, 1000000000LL);
    static int64_t batch[BATCH][8];
    while (producer.next <= total) {
        int64_t n = 1 + (int64_t)(rig_random(&random) % BATCH);
        if (n > total + 1 - producer.next) n = total + 1 - producer.next;
        while (tr_room(&producer) < n) tr_pause();
        for (int64_t i = 0; i < n; i++) {
            beside[(producer.next + i) % SLOTS] = producer.next + i;
            rig_fill(batch[i], 64, producer.next + i, rig.epoch);
        }
        for (int64_t i = 0; i < n; i++) {
            if (tr_publish(&producer, batch[i]) < 0) abort();
        }
        if (random % 16384 == 0) usleep(100); /* lets the consumers fall asleep */
    }
    return NULL;
}

static void *wait_consumer(void *name) {
    tr_reader reader = rig_reader(&rig);
    int64_t entry = tr_entry_join(rig.control, &reader, name, getpid(), 1, 0);
    if (entry < 0) abort();
    int64_t batch[BATCH][8];
    tr_reader *readers[] = {&reader};
    void *controls[] = {rig.control};
    reader.next = 1;
    while (reader.next <= total) {
        int64_t n = tr_poll_batch(&reader, batch, BATCH);
        if (n < 0) __atomic_fetch_add(&lost_records, 1, __ATOMIC_RELAXED);
        for (int64_t i = 0; i < n; i++) {
            int64_t seq = reader.next - n + i;
            if (!rig_is_whole(batch[i], 64, seq)) __atomic_fetch_add(&bad_words, 1, __ATOMIC_RELAXED);
            if (beside[seq % SLOTS] != seq) __atomic_fetch_add(&bad_beside, 1, __ATOMIC_RELAXED);
        }
        if (n > 0) {
            tr_entry_commit(rig.control, entry, reader.next, 0, 0, 1);
        } else if (reader.next <= total) {
            tr_wait_many(readers, controls, &entry, 1, 2000, 1000000000LL);
        }
    }
    return NULL;
}

static int run_wait(int64_t records, int64_t consumers) {
    static char names[8][8];
    pthread_t threads[9];
    total = records;
    rig = rig_make(64, SLOTS, TR_WAIT);
    for (int64_t i = 0; i < consumers; i++) {
        snprintf(names[i], sizeof names[i], "c%d", (int)i);
        if (tr_entry_reserve(rig.control, names[i]) != i) abort();
    }
    for (int64_t i = 0; i < consumers; i++) pthread_create(&threads[i], NULL, wait_consumer, names[i]);
    pthread_create(&threads[consumers], NULL, wait_producer, NULL);
    for (int64_t i = 0; i <= consumers; i++) pthread_join(threads[i], NULL);
    printf("records %lld bad %lld bad_beside %lld lost %lld\n", (long long)total, (long long)bad_words,
           (long long)bad_beside, (long long)lost_records);
    return 0;
}

static void *overwriting_producer(void *unused) {
    (void)unused;
    tr_producer producer = rig_producer(&rig, 0);
    int64_t record[RIG_STRIDE_LIMIT / 8];
    while (!TR_LOAD_RELAXED(&stop) && (total == 0 || producer.next <= total)) {
        rig_fill(record, rig.stride, producer.next, rig.epoch);
        if (tr_publish(&producer, record) < 0) abort();
    }
    TR_STORE_RELEASE(&stop, 1);
    return NULL;
}

/* Puts two threads on two cores where there are two: on one, they meet only where the scheduler cuts one off. */
static void part(pthread_t one, pthread_t other) {
    cpu_set_t allowed, mine;
    pthread_t threads[2] = {one, other};
    if (sched_getaffinity(0, sizeof allowed, &allowed) || CPU_COUNT(&allowed) < 2) return;
    for (size_t cpu = 0, i = 0; i < 2; cpu++) {
        if (!CPU_ISSET(cpu, &allowed)) continue;
        CPU_ZERO(&mine);
        CPU_SET(cpu, &mine);
        pthread_setaffinity_np(threads[i++], sizeof mine, &mine);
    }
}

/* Reads where the pen is: in a ring of two slots, whatever record a slot says that it holds. */
static int run_torn(int64_t reads, int64_t seconds, int64_t stride, int64_t least_collisions) {
    rig = rig_make(stride, 2, TR_OVERWRITE);
    tr_reader reader = rig_reader(&rig);
    pthread_t thread;
    pthread_create(&thread, NULL, overwriting_producer, NULL);
    part(pthread_self(), thread);
    int64_t record[RIG_STRIDE_LIMIT / 8];
    int64_t accepted = 0, torn = 0, collisions = 0, until = tr_monotonic_ns() + seconds * 1000000000LL;
    for (int64_t turn = 0; accepted + collisions < reads || collisions < least_collisions; turn++) {
        if (turn % 65536 == 0 && tr_monotonic_ns() > until) break;
        int64_t stamp = TR_LOAD_RELAXED(tr_stamp(reader.slots, reader.mask, reader.stride, turn));
        if (stamp == 0 || stamp & 1) continue;
        int64_t seq = stamp / 2 - 1;
        int64_t status = tr_read_slot(&reader, seq, record);
        if (status == TR_OK) {
            accepted++;
            torn += !rig_is_whole(record, stride, seq);
        } else {
            collisions++; /* the pen came between our look and our last check */
        }
    }
    TR_STORE_RELEASE(&stop, 1);
    pthread_join(thread, NULL);
    printf("accepted %lld collisions %lld torn %lld published %lld\n", (long long)accepted, (long long)collisions,
           (long long)torn, (long long)(tr_head(&reader) - 1));
    return 0;
}

static void *falling_reader(void *argument) {
    tr_reader reader = *(tr_reader *)argument;
    int64_t batch[BATCH][RIG_STRIDE_LIMIT / 8];
    int64_t read = 0, bad = 0;
    uint64_t random = 7 + (uint64_t)reader.rejoin;
    for (;;) {
        int is_over = TR_LOAD_ACQUIRE(&stop) != 0;
        int64_t from = reader.next;
        int64_t n = tr_poll_batch(&reader, batch, BATCH);
        if (n < 0 && reader.lost_from != from) bad++; /* the loss begins where we stood */
        for (int64_t i = 0; i < n; i++) {
            bad += !rig_is_whole((int64_t *)(void *)batch + i * rig.stride / 8, rig.stride, reader.next - n + i);
        }
        read += n > 0 ? n : 0;
        if (n == 0 && is_over) break;
        if (rig_random(&random) % 64 == 0) sched_yield();
    }
    __atomic_fetch_add(&bad_words, bad, __ATOMIC_RELAXED);
    __atomic_fetch_add(&lost_records, reader.lost_total, __ATOMIC_RELAXED);
    if (read + reader.lost_total != total) __atomic_fetch_add(&bad_beside, 1, __ATOMIC_RELAXED);
    return NULL;
}

static int run_exact(int64_t records, int64_t stride) {
    pthread_t threads[READERS + 1];
    tr_reader readers[READERS];
    total = records;
    rig = rig_make(stride, SLOTS, TR_OVERWRITE);
    for (int64_t i = 0; i < READERS; i++) {
        readers[i] = rig_reader(&rig);
        readers[i].rejoin = i; /* the newest, a whole ring back, half a ring back */
        pthread_create(&threads[i], NULL, falling_reader, &readers[i]);
    }
    pthread_create(&threads[READERS], NULL, overwriting_producer, NULL);
    for (int64_t i = 0; i <= READERS; i++) pthread_join(threads[i], NULL);
    printf("records %lld bad %lld unaccounted_readers %lld lost %lld\n", (long long)total, (long long)bad_words,
           (long long)bad_beside, (long long)lost_records);
    return 0;
}

int main(int n, char **arguments) {
    if (n < 2) return 2;
    switch (arguments[1][0]) {
        case 'w': return run_wait(rig_argument(arguments, n, 2, 100000), rig_argument(arguments, n, 3, 2));
        case 't':
            return run_torn(rig_argument(arguments, n, 2, 1000000), rig_argument(arguments, n, 3, 10),
                            rig_argument(arguments, n, 4, 64), rig_argument(arguments, n, 5, 0));
        case 'e': return run_exact(rig_argument(arguments, n, 2, 100000), rig_argument(arguments, n, 3, 64));
        default: return 2;
    }
}
