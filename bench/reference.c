/* The physical limit and the plain rival of the ring benches: one cache line between two cores, and a cached-index SPSC queue.
 *
 * The queue is the textbook's: two indices on lines of their own, each side keeps a copy of the other's and reads it
 * again only when the copy says full or empty. 64-byte slots, acquire and release, no fence.
 */
#include <stdint.h>
#include <string.h>

#define SLOTS 1024
#define WORDS 8
#define MESSAGE_WORDS (1664 / 8 - 1)

struct line {
    int64_t word;
    char pad[120];
};

struct message {
    int64_t there;
    int64_t words[MESSAGE_WORDS];
};

struct queue {
    struct line head; /* written by the producer */
    struct line tail; /* written by the consumer */
    int64_t slots[SLOTS][WORDS];
};

int64_t queue_bytes(void) { return (int64_t)sizeof(struct queue); }

/* A line each way, as any two processes that send each other something have; the parent calls ping, the child pong. */
void line_ping(struct line *lines, int64_t n) {
    for (int64_t i = 1; i <= n; i++) {
        __atomic_store_n(&lines[0].word, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(&lines[1].word, __ATOMIC_ACQUIRE) != i) {}
    }
}

void line_pong(struct line *lines, int64_t n) {
    for (int64_t i = 1; i <= n; i++) {
        while (__atomic_load_n(&lines[0].word, __ATOMIC_ACQUIRE) != i) {}
        __atomic_store_n(&lines[1].word, i, __ATOMIC_RELEASE);
    }
}

/* One word of one line that both write, to and fro: cheaper, and no use for records. */
void word_ping(struct line *line, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        __atomic_store_n(&line->word, 2 * i + 1, __ATOMIC_RELEASE);
        while (__atomic_load_n(&line->word, __ATOMIC_ACQUIRE) != 2 * i + 2) {}
    }
}

void word_pong(struct line *line, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        while (__atomic_load_n(&line->word, __ATOMIC_ACQUIRE) != 2 * i + 1) {}
        __atomic_store_n(&line->word, 2 * i + 2, __ATOMIC_RELEASE);
    }
}

/* A message of 26 lines each way, written and read whole by memcpy, with one word to say that it is there. */
void message_ping(struct message *both, int64_t n) {
    int64_t private_copy[MESSAGE_WORDS] = {0};
    for (int64_t i = 1; i <= n; i++) {
        memcpy(both[0].words, private_copy, sizeof private_copy);
        __atomic_store_n(&both[0].there, i, __ATOMIC_RELEASE);
        while (__atomic_load_n(&both[1].there, __ATOMIC_ACQUIRE) != i) {}
        memcpy(private_copy, both[1].words, sizeof private_copy);
        __asm__ volatile("" : : "r"(private_copy) : "memory");
    }
}

void message_pong(struct message *both, int64_t n) {
    int64_t private_copy[MESSAGE_WORDS];
    for (int64_t i = 1; i <= n; i++) {
        while (__atomic_load_n(&both[0].there, __ATOMIC_ACQUIRE) != i) {}
        memcpy(private_copy, both[0].words, sizeof private_copy);
        __asm__ volatile("" : : "r"(private_copy) : "memory");
        memcpy(both[1].words, private_copy, sizeof private_copy);
        __atomic_store_n(&both[1].there, i, __ATOMIC_RELEASE);
    }
}

void queue_push(struct queue *q, int64_t n) {
    int64_t tail = 0;
    int64_t record[WORDS];
    for (int64_t head = 0; head < n; head++) {
        while (head - tail == SLOTS) tail = __atomic_load_n(&q->tail.word, __ATOMIC_ACQUIRE);
        for (int64_t i = 0; i < WORDS; i++) record[i] = head + i;
        memcpy(q->slots[head % SLOTS], record, sizeof record);
        __atomic_store_n(&q->head.word, head + 1, __ATOMIC_RELEASE);
    }
}

/* Returns how many records were not what was pushed. */
int64_t queue_pop(struct queue *q, int64_t n) {
    int64_t head = 0, wrong = 0;
    int64_t record[WORDS];
    for (int64_t tail = 0; tail < n; tail++) {
        while (head == tail) head = __atomic_load_n(&q->head.word, __ATOMIC_ACQUIRE);
        memcpy(record, q->slots[tail % SLOTS], sizeof record);
        wrong += record[0] != tail || record[WORDS - 1] != tail + WORDS - 1;
        __atomic_store_n(&q->tail.word, tail + 1, __ATOMIC_RELEASE);
    }
    return wrong;
}
