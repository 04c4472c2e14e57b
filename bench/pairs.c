/* The C halves of the mixed pairs: what the jitted loops of the ring benches do, word for word, over the same library. */
#include "ring_api.h"

void pairs_ping(tr_producer *producer, tr_reader *reader, const void *record, void *out, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        tr_publish(producer, record);
        while (tr_poll_batch(reader, out, 1) == 0) {}
    }
}

void pairs_pong(tr_producer *producer, tr_reader *reader, void *out, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        while (tr_poll_batch(reader, out, 1) == 0) {}
        tr_publish(producer, out);
    }
}

/* `batch` holds n_batch records of 64 bytes, whose second word is given the record's number. */
int64_t pairs_produce(tr_producer *producer, int64_t *batch, int64_t n_batch, int64_t n) {
    for (int64_t first = 0; first < n; first += n_batch) {
        for (int64_t i = 0; i < n_batch; i++) batch[8 * i + 1] = first + i;
        if (tr_publish_batch(producer, batch, n_batch) < 0) return 1;
    }
    return 0;
}

/* Returns how many records were not the next one. */
int64_t pairs_consume(tr_reader *reader, void *control, int64_t entry, int64_t *batch, int64_t n_batch, int64_t n) {
    int64_t wrong = 0;
    for (int64_t done = 0; done < n;) {
        int64_t k = tr_poll_batch(reader, batch, n_batch);
        if (k < 0) return n;
        for (int64_t i = 0; i < k; i++) wrong += batch[8 * i + 1] != done + i;
        done += k;
        if (k > 0) tr_entry_commit(control, entry, done + 1, 0, 0, 0);
    }
    return wrong;
}
