/* The calls of ring_api.h that touch slots: life cycle, publish, read, .latest. Protocol: ring.h. */
#define _GNU_SOURCE
#include "ring_api.h"

#include <sched.h>
#include <time.h>

#include "layouts.h"

#define TR_PAGE 4096
#define TR_STRIDE_LIMIT (1LL << 20)
#define TR_SLOTS_LIMIT (1LL << 40)
#define TR_LATEST_ATTEMPTS 1000
#define TR_HEAD_ATTEMPTS 100000
#define TR_HEAD_STILL 1000

static int64_t tr_round_up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

static int64_t tr_data_header_bytes(int64_t description_bytes) {
    return tr_round_up(TR_DESCRIPTION_OFFSET + description_bytes, TR_PAGE);
}

int64_t tr_data_bytes(int64_t stride, int64_t slots, int64_t description_bytes) {
    return tr_data_header_bytes(description_bytes) + tr_round_up(stride * slots, TR_PAGE);
}

int64_t tr_producer_bytes(void) { return (int64_t)sizeof(tr_producer); }
int64_t tr_reader_bytes(void) { return (int64_t)sizeof(tr_reader); }

/* Fills a fresh zeroed region, all but the magic. Strides are multiples of 64, slots a power of two. */
int64_t tr_data_init(void *data, int64_t stride, int64_t slots, int64_t mode, const char *description,
                     int64_t description_bytes, const uint8_t *abi_hash, const uint8_t *ring_uuid,
                     const uint8_t *boot_id, int64_t created_ns, int64_t first_seq) {
    if (stride < 64 || stride > TR_STRIDE_LIMIT || stride % 64 || slots < 2 || slots > TR_SLOTS_LIMIT || (slots & (slots - 1)) ||
        first_seq < 1 || first_seq >= TR_SEQ_END) {
        return TR_BAD_ARGUMENT;
    }
    struct tr_data *d = data;
    TR_STORE_RELEASE(&d->magic, 0);
    d->layout_version = TR_LAYOUT_VERSION;
    d->byte_order = TR_BYTE_ORDER;
    d->header_bytes = tr_data_header_bytes(description_bytes);
    d->slot_stride = stride;
    d->slots = slots;
    d->mask = slots - 1;
    d->mode = (int32_t)mode;
    d->description_bytes = (int32_t)description_bytes;
    memcpy(d->abi_hash, abi_hash, 16);
    memcpy(d->ring_uuid, ring_uuid, 16);
    memcpy(d->boot_id, boot_id, 16);
    d->created_ns = created_ns;
    d->first_seq = first_seq;
    d->head = first_seq;
    d->state = TR_INIT;
    memcpy((uint8_t *)data + TR_DESCRIPTION_OFFSET, description, (size_t)description_bytes);
    return TR_OK;
}

/* FNV-1a over the static words behind the magic. Each of its steps is a bijection, so no single damaged bit escapes. */
int64_t tr_static_checksum(const void *data) {
    const uint8_t *bytes = data;
    uint64_t sum = 0xcbf29ce484222325ULL;
    for (size_t i = sizeof(int64_t); i < offsetof(struct tr_data, static_checksum); i++) {
        sum = (sum ^ bytes[i]) * 0x100000001b3ULL;
    }
    return (int64_t)sum;
}

void tr_data_commit(void *data) {
    struct tr_data *d = data;
    d->static_checksum = tr_static_checksum(data);
    TR_STORE_RELEASE(&d->magic, TR_MAGIC_DATA);
}

/* True when the slots bear `head` out: the record before it is complete and not written over, and none is begun beyond
 * the one that it may trail by. */
static int tr_head_agrees(const struct tr_data *d, int64_t head) {
    if (d->mode == TR_LATEST) return head == d->first_seq;
    const uint8_t *slots = (const uint8_t *)d + d->header_bytes;
    if (head > d->first_seq && TR_LOAD_ACQUIRE(tr_stamp(slots, d->mask, d->slot_stride, head - 1)) != 2 * head) return 0;
    return TR_LOAD_ACQUIRE(tr_stamp(slots, d->mask, d->slot_stride, head)) <= 2 * head + 2 &&
           TR_LOAD_ACQUIRE(tr_stamp(slots, d->mask, d->slot_stride, head + 1)) <= 2 * head + 2;
}

/* What is wrong with the first 256 bytes of a header whose geometry lies inside the mapping. A running producer moves
 * head on between our loads, so only a head that stays, and stays wrong, is a fault. */
int64_t tr_header_fault(const void *data) {
    const struct tr_data *d = data;
    if (d->static_checksum != tr_static_checksum(data)) return TR_FAULT_CHECKSUM;
    for (size_t i = 0; i < sizeof d->pad_head; i++) {
        if (d->pad_head[i]) return TR_FAULT_PADDING;
    }
    int64_t still = 0;
    for (int64_t attempt = 0; attempt < TR_HEAD_ATTEMPTS; attempt++) {
        int64_t head = TR_LOAD_ACQUIRE(&d->head);
        if (tr_head_agrees(d, head)) return TR_FAULT_NONE;
        still = TR_LOAD_ACQUIRE(&d->head) == head ? still + 1 : 0;
        if (still == TR_HEAD_STILL) return TR_FAULT_HEAD;
        tr_pause();
    }
    return TR_FAULT_NONE;
}

/* Continues after the newest complete slot: slots are the truth, head is a hint that trails by at most one record. */
int64_t tr_producer_open(tr_producer *p, void *data, void *control, int64_t timeout_ns) {
    struct tr_data *d = data;
    p->data = d;
    p->control = control;
    p->slots = (uint8_t *)data + d->header_bytes;
    p->mask = d->mask;
    p->stride = d->slot_stride;
    p->mode = d->mode;
    p->timeout_ns = timeout_ns;
    p->next = TR_LOAD_ACQUIRE(&d->head);
    if (d->mode != TR_LATEST) {
        for (int64_t walked = 0; walked < d->slots; walked++) {
            if (TR_LOAD_ACQUIRE(tr_stamp(p->slots, p->mask, p->stride, p->next)) != 2 * p->next + 2) break;
            p->next++;
        }
        TR_STORE_RELEASE(&d->head, p->next);
    }
    p->limit = p->mode == TR_WAIT ? p->next : TR_SEQ_END;
    if (control) TR_STORE_RELEASE(&((struct tr_control *)control)->membarrier_ready, tr_wait_register() == 0);
    return p->next;
}

/* A new incarnation: recorded as (epoch, first seq) before the epoch itself is shown. */
int64_t tr_producer_take_epoch(tr_producer *p, int64_t epoch, int64_t pid, int64_t start_time, int64_t now_ns) {
    struct tr_data *d = p->data;
    if (epoch <= d->epoch) return TR_BAD_ARGUMENT;
    int64_t taken = d->epochs_taken;
    d->epochs[taken % TR_EPOCHS_KEPT] = (struct tr_epoch){epoch, p->next};
    TR_STORE_RELEASE(&d->epochs_taken, taken + 1);
    d->producer_pid = pid;
    d->producer_start_time = start_time;
    if (taken) d->restarts++;
    TR_STORE_RELEASE(&d->heartbeat_ns, now_ns);
    TR_STORE_RELEASE(&d->epoch, epoch);
    TR_STORE_RELEASE(&d->state, TR_LIVE);
    return TR_OK;
}

void tr_producer_set_state(tr_producer *p, int64_t state) {
    TR_STORE_RELEASE(&p->data->state, state);
    if (p->control && TR_LOAD_RELAXED(&p->control->sleepers)) tr_wake(p->control);
}

void tr_producer_heartbeat(tr_producer *p, int64_t now_ns) { TR_STORE_RELEASE(&p->data->heartbeat_ns, now_ns); }

int64_t tr_reader_open(tr_reader *r, const void *data) {
    const struct tr_data *d = data;
    r->data = d;
    r->slots = (const uint8_t *)data + d->header_bytes;
    r->mask = d->mask;
    r->stride = d->slot_stride;
    r->next = TR_LOAD_ACQUIRE(&d->head);
    r->lost_from = r->lost_to = r->lost_total = 0;
    r->rejoin = 2;
    return r->next;
}

/* Step P0's slow half: the minimum over ACTIVE cursors; over none of them the current position, never infinity. */
static TR_COLD int64_t tr_rescan(tr_producer *p) {
    if (p->mode != TR_WAIT) return p->limit;
    int64_t least = p->next;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (int64_t i = 0; p->control && i < TR_CONSUMERS; i++) {
        struct tr_entry *e = &p->control->entry[i];
        int64_t state = TR_LOAD_ACQUIRE(&e->state);
        if (state == TR_FREE || state == TR_DETACHED) continue;
        if (TR_LOAD_ACQUIRE(&e->dead_generation) == TR_LOAD_ACQUIRE(&e->generation)) continue;
        if (state != TR_ACTIVE) {
            if (e->required) return p->limit = p->next; /* a required consumer has not come yet, or is just coming */
            continue;
        }
        int64_t cursor = TR_LOAD_ACQUIRE(&e->cursor);
        if (cursor < least) least = cursor;
    }
    p->limit = least + p->mask + 1 < TR_SEQ_END ? least + p->mask + 1 : TR_SEQ_END;
    return p->limit;
}

/* Free slots now: how many records may be published without waiting. */
int64_t tr_room(tr_producer *p) {
    if (p->mode != TR_WAIT) return TR_SEQ_END - p->next;
    return tr_rescan(p) - p->next;
}

/* Step P0 when the cached limit is reached. Whoever sleeps on what is published already has to wake to make room. */
static TR_COLD int64_t tr_make_room(tr_producer *p) {
    if (p->next >= TR_SEQ_END) return TR_SEQ_EXHAUSTED;
    if (tr_rescan(p) > p->next) return TR_OK;
    tr_ring_bell(p);
    int64_t start = tr_monotonic_ns();
    for (int64_t turn = 0;; turn++) {
        if (turn < 256) {
            tr_pause();
        } else if (turn < 512) {
            sched_yield();
        } else {
            nanosleep(&(struct timespec){0, 50000}, NULL);
        }
        int64_t passed = tr_monotonic_ns() - start;
        if (tr_rescan(p) > p->next) {
            p->data->back_pressure_ns += passed;
            return TR_OK;
        }
        if (passed >= p->timeout_ns) return TR_WOULD_BLOCK;
    }
}

int64_t tr_publish(tr_producer *p, const void *record) {
    int64_t n = p->next;
    if (TR_UNLIKELY(n >= p->limit)) {
        TR_HOOK(TR_P0, n);
        int64_t status = tr_make_room(p);
        if (status < 0) return status;
    }
    tr_write_slot(p, n, record);
    p->next = n + 1;
    tr_ring_bell(p);
    tr_own_next(p, n);
    return n;
}

/* Publishes n records whose publish_delta_ns is filled in (saturating) from one clock reading. On a negative status
 * the records before seq p->next are published. */
int64_t tr_publish_batch(tr_producer *p, void *records, int64_t n) {
    const tr_producer fixed = *p; /* a copy that no store to a slot can alias */
    uint8_t *from = records;
    int64_t first = fixed.next;
    int64_t limit = fixed.limit;
    int64_t now_ns = tr_now_ns();
    for (int64_t seq = first; seq < first + n; seq++, from += fixed.stride) {
        if (TR_UNLIKELY(seq >= limit)) {
            TR_HOOK(TR_P0, seq);
            p->next = seq;
            int64_t status = tr_make_room(p);
            if (status < 0) {
                tr_ring_bell(p);
                return status;
            }
            limit = p->limit;
        }
        struct tr_event *event = (struct tr_event *)(void *)from; /* every record opens with the same header */
        int64_t delta = now_ns - event->ts_recv;
        event->publish_delta_ns = delta < 0 ? 0 : delta > UINT32_MAX ? UINT32_MAX : (uint32_t)delta;
        tr_write_slot(&fixed, seq, (const int64_t *)(const void *)from);
    }
    p->next = first + n;
    tr_ring_bell(p);
    tr_own_next(p, first + n - 1);
    return first;
}

int64_t tr_head(const tr_reader *r) { return TR_LOAD_ACQUIRE(&r->data->head); }

/* The oldest seq that a reader may still get: the slot of `head` itself may be under the pen. */
int64_t tr_oldest(const tr_reader *r) {
    int64_t oldest = tr_head(r) - r->mask;
    return oldest > r->data->first_seq ? oldest : r->data->first_seq;
}

int64_t tr_read(tr_reader *r, int64_t seq, void *record) { return tr_read_slot(r, seq, record); }

/* Moves a lapped reader on and tells the exact range that it lost. */
static TR_COLD int64_t tr_note_lap(tr_reader *r) {
    int64_t head = TR_LOAD_ACQUIRE(&r->data->head);
    int64_t go_on = r->rejoin > 0 ? head - (r->mask + 1) / r->rejoin : head - 1;
    if (go_on <= r->next) go_on = r->next + 1;
    r->lost_from = r->next;
    r->lost_to = go_on - 1;
    r->lost_total += go_on - r->next;
    r->next = go_on;
    return TR_LAPPED;
}

int64_t tr_poll_batch(tr_reader *r, void *records, int64_t max_records) {
    const tr_reader fixed = *r; /* a copy that no store to `records` can alias */
    uint8_t *to = records;
    int64_t seq = fixed.next;
    int64_t end = seq + max_records;
    for (; seq < end; seq++, to += fixed.stride) {
        int64_t status = tr_read_slot(&fixed, seq, (int64_t *)(void *)to);
        if (TR_LIKELY(status == TR_OK)) continue;
        if (seq > fixed.next) break;
        if (status == TR_LAPPED) return tr_note_lap(r);
        tr_pause(); /* nothing yet: who polls in a tight loop leaves the slot's line to the producer for a moment */
        return 0;
    }
    r->next = seq;
    return seq - fixed.next;
}

static void tr_copy_words(void *to, const void *from, int64_t n_bytes) {
#if defined(TR_FENCE_FREE)
    for (int64_t i = 0; i < n_bytes / 8; i++) ((int64_t *)to)[i] = TR_LOAD_ACQUIRE((const int64_t *)from + i);
#else
    tr_load_vectors(to, from, n_bytes);
#endif
}

/* Copies up to n records from from_seq on, then drops what was overwritten meanwhile: returns how many of the copied
 * ones are good; the first of them is seq *first_kept, at index *first_kept - from_seq of `records`. */
int64_t tr_read_many(const tr_reader *r, int64_t from_seq, int64_t n, void *records, int64_t *first_kept) {
    int64_t head = TR_LOAD_ACQUIRE(&r->data->head);
    int64_t end = from_seq + n < head ? from_seq + n : head;
    int64_t seq = from_seq;
    uint8_t *to = records;
    while (seq < end) {
        int64_t at = seq & r->mask;
        int64_t run = r->mask + 1 - at < end - seq ? r->mask + 1 - at : end - seq;
        tr_copy_words(to, r->slots + at * r->stride, run * r->stride);
        to += run * r->stride;
        seq += run;
    }
    TR_FENCE_ACQUIRE();
    int64_t oldest = TR_LOAD_RELAXED(&r->data->head) - r->mask;
    *first_kept = oldest > from_seq ? oldest : from_seq;
    if (*first_kept >= end) return 0;
    *(int64_t *)((uint8_t *)records + (*first_kept - from_seq) * r->stride) = 2 * *first_kept + 2;
    return end - *first_kept;
}

/* One slot per instrument: the stamp counts that slot's own versions; an odd stamp left by a crash is reused. */
int64_t tr_latest_store(tr_producer *p, int64_t index, const void *record) {
    if (index < 0 || index > p->mask) return TR_BAD_ARGUMENT;
    int64_t *slot = tr_stamp(p->slots, p->mask, p->stride, index);
    int64_t odd = TR_LOAD_RELAXED(slot) | 1;
    TR_STAMP_ODD(slot, odd);
    TR_FENCE_RELEASE();
    tr_store_record(slot, record, p->stride);
    TR_STORE_RELEASE(slot, odd + 1);
    return TR_OK;
}

int64_t tr_latest_load(const tr_reader *r, int64_t index, void *record) {
    if (index < 0 || index > r->mask) return TR_BAD_ARGUMENT;
    const int64_t *slot = tr_stamp(r->slots, r->mask, r->stride, index);
    for (int64_t attempt = 0; attempt < TR_LATEST_ATTEMPTS; attempt++) {
        int64_t stamp = TR_LOAD_ACQUIRE(slot);
        if (stamp == 0) return TR_EMPTY;
        if (stamp & 1) {
            tr_pause();
            continue;
        }
        tr_load_record(record, slot, r->stride);
        TR_FENCE_ACQUIRE();
        if (TR_LOAD_RELAXED(slot) == stamp) {
            *(int64_t *)record = stamp;
            return TR_OK;
        }
    }
    return TR_LAPPED; /* the producer stopped in mid-write: what the slot held is gone until it writes again */
}
