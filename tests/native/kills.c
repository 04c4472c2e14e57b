/* Processes that are killed or stopped at random, or exactly at one numbered step, and what is left for the others.
 *
 * kills producer <times> <stride>   the producer dies; the parent reads what the ring holds, a new producer goes on
 * kills lossless <times> <stride>   the same in a "wait" ring, where the parent reads everything
 * kills consumer <times>            the consumer dies; its successor goes on at the cursor and sinks every record
 * kills stop     <times> <stride>   the producer is stopped, read around, and continued
 * kills step     <step> <nth>       (built with TR_HOOKS) the producer dies at the nth passage of a step
 * kills reader   <step> <nth>       (built with TR_HOOKS) the consumer dies there
 * One line of "name value" pairs.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>

#include "rig.h"

#define SLOTS 256
#define BATCH 16
#define PUBLISHED_AT_ONCE 1024 /* more than a cache holds, so that most time goes into P3 */

static struct rig rig;
static int64_t hook_step = -1, hook_nth;
static int is_batch = 1; /* publish by batches, or each record on its own */

#ifdef TR_HOOKS
void tr_hook(int step, int64_t seq) {
    (void)seq;
    if (step == hook_step && hook_nth-- == 0) kill(getpid(), SIGKILL);
}
#endif

/* Publishes without end, or up to `last`; what it writes is filled before, so that most of its time is inside publish. */
static void produce(int64_t last) {
    static int64_t records[PUBLISHED_AT_ONCE * RIG_STRIDE_LIMIT / 8];
    tr_producer producer = rig_producer(&rig, 1000000000LL);
    while (producer.next <= last) {
        int64_t n = 0;
        for (; n < PUBLISHED_AT_ONCE && producer.next + n <= last; n++) {
            rig_fill(records + n * rig.stride / 8, rig.stride, producer.next + n, rig.epoch);
        }
        if (is_batch) {
            tr_publish_batch(&producer, records, n); /* what found no room is filled again */
        } else {
            for (int64_t i = 0; i < n && tr_publish(&producer, records + i * rig.stride / 8) > 0; i++) {}
        }
    }
}

static pid_t start(void (*body)(int64_t), int64_t argument) {
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a harness that is timed out leaves nobody behind */
        body(argument);
        _exit(0);
    }
    rig.epoch++; /* the child took it in its own copy */
    return pid;
}

struct count {
    int64_t read, bad, lost;
};

static int64_t batch[BATCH][RIG_STRIDE_LIMIT / 8];

/* Reads what is there, up to one batch, checks each word, and commits. */
static int64_t drain(tr_reader *reader, int64_t entry, struct count *count) {
    int64_t n = tr_poll_batch(reader, batch, BATCH);
    if (n < 0) count->lost += reader->lost_to - reader->lost_from + 1;
    for (int64_t i = 0; i < n; i++) {
        int64_t *record = (int64_t *)(void *)batch + i * rig.stride / 8;
        count->bad += !rig_is_whole(record, rig.stride, reader->next - n + i);
    }
    count->read += n > 0 ? n : 0;
    if (entry >= 0) tr_entry_commit(rig.control, entry, reader->next, 0, 0, 1);
    return n;
}

static int64_t join(const char *name, tr_reader *reader) {
    *reader = rig_reader(&rig);
    int64_t entry = tr_entry_find(rig.control, name);
    struct tr_control *control = rig.control;
    if (entry >= 0 && control->entry[entry].state == TR_ACTIVE) {
        tr_entry_take_over(rig.control, entry, control->entry[entry].generation, getpid(), 1);
    } else {
        if (entry >= 0) control->entry[entry].state = TR_RESERVED; /* as shm/consumer.py does for a half-joined one */
        entry = tr_entry_join(rig.control, reader, name, getpid(), 1, 0);
    }
    if (entry < 0) abort();
    reader->next = control->entry[entry].cursor;
    return entry;
}

/* Lets the child publish something new and then go on for a random while, without taking the core from it. */
static void let_run(const tr_reader *reader, uint64_t *random) {
    while (tr_head(reader) <= reader->next) usleep(20);
    usleep((useconds_t)(rig_random(random) % 200));
}

static int run_producer_kills(int64_t times, int64_t stride, int64_t mode) {
    rig = rig_make(stride, SLOTS, mode);
    tr_reader reader = rig_reader(&rig);
    int64_t entry = -1;
    if (mode == TR_WAIT) {
        tr_entry_reserve(rig.control, "parent");
        entry = join("parent", &reader);
    }
    struct count count = {0, 0, 0};
    uint64_t random = 88172645463325252ULL;
    int64_t in_record = 0, again = 0;
    for (int64_t k = 0; k < times; k++) {
        pid_t child = start(produce, INT64_MAX);
        let_run(&reader, &random);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (drain(&reader, entry, &count) != 0) {}
        int64_t stamp = *tr_stamp(reader.slots, reader.mask, reader.stride, reader.next);
        in_record += stamp == 2 * reader.next + 1;
        again += stamp > 2 * reader.next + 1;
    }
    printf("kills %lld read %lld published %lld bad %lld lost %lld again %lld in_record %lld\n", (long long)times,
           (long long)count.read, (long long)(reader.next - 1), (long long)count.bad, (long long)count.lost,
           (long long)again, (long long)in_record);
    return 0;
}

/* `sunk` outlives the consumer: the last seq whose effect is done, and how often an effect was done out of turn. */
static int64_t *sunk;

static void consume(int64_t last) {
    tr_reader reader;
    int64_t entry = join("child", &reader);
    tr_reader *readers[] = {&reader};
    void *controls[] = {rig.control};
    if (reader.next > sunk[0] + 1) sunk[1]++; /* it would leave something out */
    while (reader.next <= last) {
        int64_t n = tr_poll_batch(&reader, batch, BATCH);
        if (n < 0) sunk[2] += reader.lost_to - reader.lost_from + 1;
        for (int64_t i = 0; i < n; i++) {
            int64_t seq = reader.next - n + i;
            if (!rig_is_whole((int64_t *)(void *)batch + i * rig.stride / 8, rig.stride, seq)) sunk[3]++;
            if (seq <= sunk[0]) continue; /* done before: suppressed at the output by its identity */
            if (seq != sunk[0] + 1) sunk[1]++;
            TR_STORE_RELEASE(&sunk[0], seq);
        }
        if (n > 0) tr_entry_commit(rig.control, entry, reader.next, 0, 0, 1);
        if (n == 0 && reader.next <= last) tr_wait_many(readers, controls, &entry, 1, 1000, 10000000);
    }
}

static int run_consumer_kills(int64_t times) {
    sunk = rig_memory(4096);
    rig = rig_make(64, SLOTS, TR_WAIT);
    tr_entry_reserve(rig.control, "child");
    pid_t producer = start(produce, INT64_MAX);
    uint64_t random = 42;
    for (int64_t k = 0; k < times; k++) {
        pid_t child = start(consume, INT64_MAX);
        int64_t until = TR_LOAD_ACQUIRE(&sunk[0]) + (int64_t)(rig_random(&random) % 3000);
        while (TR_LOAD_ACQUIRE(&sunk[0]) <= until) usleep(20);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
    }
    kill(producer, SIGKILL);
    waitpid(producer, NULL, 0);
    printf("kills %lld sunk %lld left_out %lld lost %lld bad %lld\n", (long long)times, (long long)sunk[0],
           (long long)sunk[1], (long long)sunk[2], (long long)sunk[3]);
    return 0;
}

/* What a reader makes of a ring whose producer stands still, perhaps in mid-record: the number of faults. */
static int64_t look_around(int64_t stride) {
    static int64_t range[SLOTS * RIG_STRIDE_LIMIT / 8];
    tr_reader passive = rig_reader(&rig);
    int64_t head = tr_head(&passive), oldest = tr_oldest(&passive), first = 0, faults = 0;
    int64_t from = oldest > 1 ? oldest - 1 : 1; /* one more than can be had: its slot may be under the pen */
    int64_t kept = tr_read_many(&passive, from, head - from, range, &first);
    for (int64_t i = 0; i < kept; i++) {
        faults += !rig_is_whole(range + (first - from + i) * stride / 8, stride, first + i);
    }
    return faults + (kept != head - oldest);
}

static int run_stops(int64_t times, int64_t stride) {
    rig = rig_make(stride, SLOTS, TR_OVERWRITE);
    tr_reader reader = rig_reader(&rig);
    struct count count = {0, 0, 0};
    uint64_t random = 99;
    int64_t in_record = 0, moved = 0, torn = 0;
    pid_t child = start(produce, INT64_MAX);
    for (int64_t k = 0; k < times; k++) {
        let_run(&reader, &random);
        kill(child, SIGSTOP);
        waitpid(child, NULL, WUNTRACED);
        int64_t head = tr_head(&reader);
        torn += look_around(stride);
        while (drain(&reader, -1, &count) != 0) {}
        in_record += *tr_stamp(reader.slots, reader.mask, reader.stride, reader.next) == 2 * reader.next + 1;
        moved += tr_head(&reader) != head;
        kill(child, SIGCONT);
    }
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    printf("stops %lld bad %lld unaccounted %lld torn %lld moved %lld in_record %lld\n", (long long)times,
           (long long)count.bad, (long long)(reader.next - 1 - count.read - count.lost), (long long)torn,
           (long long)moved, (long long)in_record);
    return 0;
}

static void produce_then_die(int64_t step) {
    hook_step = step;
    is_batch = 0;
    produce(4 * SLOTS);
}

/* The producer dies at one step; readers and a successor take it from there. */
static int run_step(int64_t step, int64_t nth) {
    rig = rig_make(128, SLOTS, TR_WAIT);
    tr_entry_reserve(rig.control, "parent");
    tr_reader reader;
    int64_t entry = join("parent", &reader), status = 0;
    struct count count = {0, 0, 0};
    hook_nth = nth;
    pid_t child = start(produce_then_die, step);
    while (waitpid(child, (int *)&status, WNOHANG) == 0) drain(&reader, entry, &count);
    while (drain(&reader, entry, &count) > 0) {}
    int64_t died_at = reader.next;
    int died = WIFSIGNALED((int)status) && WTERMSIG((int)status) == SIGKILL;
    child = start(produce, died_at + 2 * SLOTS);
    while (reader.next <= died_at + 2 * SLOTS) drain(&reader, entry, &count);
    waitpid(child, NULL, 0);
    const struct tr_data *data = rig.data;
    printf("died %d at %lld resumed_at %lld read %lld published %lld bad %lld lost %lld\n", died, (long long)died_at,
           (long long)data->epochs[1].first_seq, (long long)count.read, (long long)(tr_head(&reader) - 1), (long long)count.bad, (long long)count.lost);
    return 0;
}

static void consume_then_die(int64_t step) {
    hook_step = step;
    consume(INT64_MAX);
}

static int run_reader_step(int64_t step, int64_t nth) {
    sunk = rig_memory(4096);
    rig = rig_make(64, SLOTS, TR_WAIT);
    tr_entry_reserve(rig.control, "child");
    hook_nth = nth;
    pid_t child = start(consume_then_die, step);
    pid_t producer = start(produce, 4 * SLOTS);
    int status = 0;
    waitpid(child, &status, 0);
    int died = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    int64_t died_at = sunk[0];
    child = start(consume, 4 * SLOTS);
    waitpid(child, NULL, 0);
    waitpid(producer, NULL, 0);
    printf("died %d at %lld sunk %lld published %d left_out %lld lost %lld bad %lld\n", died, (long long)died_at,
           (long long)sunk[0], 4 * SLOTS, (long long)sunk[1], (long long)sunk[2], (long long)sunk[3]);
    return 0;
}

int main(int n, char **arguments) {
    if (n < 3) return 2;
    int64_t first = rig_argument(arguments, n, 2, 0);
    int64_t second = rig_argument(arguments, n, 3, 64);
    setvbuf(stdout, NULL, _IOLBF, 0);
    switch (arguments[1][0]) {
        case 'p': return run_producer_kills(first, second, TR_OVERWRITE);
        case 'l': return run_producer_kills(first, second, TR_WAIT);
        case 'c': return run_consumer_kills(first);
        case 's': return arguments[1][2] == 'o' ? run_stops(first, second) : run_step(first, second);
        case 'r': return run_reader_step(first, second);
        default: return 2;
    }
}
