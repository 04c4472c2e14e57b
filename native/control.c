/* The calls of ring_api.h that touch .ctl: registered consumers, their cursors, snapshot requests.
 *
 * Protocol of joining (proved together with P0): CAS FREE -> JOINING; J1 cursor <- head; J2 state <- ACTIVE (release);
 * fence(seq_cst); J3 re-read head and store the cursor again. A rescan that missed the ACTIVE state took its minimum
 * over an empty set, so its limit lies at most one ring beyond a head that J3 sees. A required consumer holds the
 * producer back from its reservation on, also while it is JOINING. Who joins a "wait" ring from an older seq may be
 * lapped on its first ring; it is told.
 * Callers hold a lock on the .ctl file while joining, so that one name is one entry.
 */
#define _GNU_SOURCE /* strnlen */
#include "ring_api.h"

int64_t tr_control_bytes(void) { return (int64_t)sizeof(struct tr_control); }

int64_t tr_control_init(void *control, const uint8_t *ring_uuid) {
    struct tr_control *c = control;
    TR_STORE_RELEASE(&c->magic, 0);
    c->layout_version = TR_LAYOUT_VERSION;
    c->byte_order = TR_BYTE_ORDER;
    c->entries = TR_CONSUMERS;
    c->total_bytes = tr_control_bytes();
    memcpy(c->ring_uuid, ring_uuid, 16);
    for (int64_t i = 0; i < TR_CONSUMERS; i++) c->entry[i].dead_generation = -1;
    return TR_OK;
}

/* After the required consumers are reserved: a crash before this leaves a region that the lock's holder makes anew. */
void tr_control_commit(void *control) { TR_STORE_RELEASE(&((struct tr_control *)control)->magic, TR_MAGIC_CONTROL); }

static void tr_set_name(struct tr_entry *e, const char *name) {
    memset(e->name, 0, TR_NAME_BYTES);
    memcpy(e->name, name, strnlen(name, TR_NAME_BYTES - 1));
}

int64_t tr_entry_find(const void *control, const char *name) {
    const struct tr_control *c = control;
    for (int64_t i = 0; i < TR_CONSUMERS; i++) {
        int64_t state = TR_LOAD_ACQUIRE(&c->entry[i].state);
        if (state != TR_FREE && strncmp(c->entry[i].name, name, TR_NAME_BYTES - 1) == 0) return i;
    }
    return TR_NO_ENTRY;
}

static int64_t tr_claim_free(struct tr_control *c, int64_t to_state, const char *name) {
    for (int64_t i = 0; i < TR_CONSUMERS; i++) {
        int64_t expected = TR_FREE;
        if (__atomic_compare_exchange_n(&c->entry[i].state, &expected, TR_JOINING, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
            tr_set_name(&c->entry[i], name);
            c->entry[i].required = to_state == TR_RESERVED;
            if (to_state != TR_JOINING) TR_STORE_RELEASE(&c->entry[i].state, to_state);
            return i;
        }
    }
    return TR_NO_ENTRY;
}

/* "wait" mode: names a consumer that the producer must not publish without. */
int64_t tr_entry_reserve(void *control, const char *name) { return tr_claim_free(control, TR_RESERVED, name); }

static void tr_set_ledger(struct tr_entry *e, int64_t cursor, int64_t lapped) {
    int64_t at = e->ledger[0].for_cursor == TR_LOAD_RELAXED(&e->cursor) ? 1 : 0;
    TR_STORE_RELAXED(&e->ledger[at].lapped, lapped);
    TR_STORE_RELEASE(&e->ledger[at].for_cursor, cursor);
}

/* Joins under `name`. from_seq: < 0 the next record to come, 0 the oldest there is, > 0 that seq. Returns the entry's index. */
int64_t tr_entry_join(void *control, const tr_reader *r, const char *name, int64_t pid, int64_t start_time, int64_t from_seq) {
    struct tr_control *c = control;
    int64_t index = tr_entry_find(control, name);
    if (index < 0) {
        index = tr_claim_free(c, TR_JOINING, name);
        if (index < 0) return index;
    } else {
        int64_t state = TR_LOAD_ACQUIRE(&c->entry[index].state);
        if (state != TR_RESERVED && state != TR_DETACHED) return TR_TAKEN;
        if (!__atomic_compare_exchange_n(&c->entry[index].state, &state, TR_JOINING, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return TR_TAKEN;
    }
    struct tr_entry *e = &c->entry[index];
    e->pid = pid;
    e->start_time = start_time;
    TR_STORE_RELEASE(&e->generation, e->generation + 1);
    TR_HOOK(TR_J1, 0);
    int64_t cursor = from_seq > 0 ? from_seq : from_seq < 0 ? tr_head(r) : tr_oldest(r);
    e->start_seq = cursor;
    e->ledger[0] = e->ledger[1] = (struct tr_ledger){cursor, 0};
    TR_STORE_RELEASE(&e->cursor, cursor); /* J1 */
    TR_HOOK(TR_J2, 0);
    TR_STORE_RELEASE(&e->state, TR_ACTIVE); /* J2 */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    TR_HOOK(TR_J3, 0);
    if (from_seq < 0) {
        cursor = tr_head(r);
        e->start_seq = cursor;
        e->ledger[0] = e->ledger[1] = (struct tr_ledger){cursor, 0};
        TR_STORE_RELEASE(&e->cursor, cursor); /* J3 */
    }
    return index;
}

/* A restarted consumer takes its own entry over, cursor and all: exactly one of several racing claimers wins. */
int64_t tr_entry_take_over(void *control, int64_t index, int64_t generation, int64_t pid, int64_t start_time) {
    struct tr_entry *e = &((struct tr_control *)control)->entry[index];
    if (!__atomic_compare_exchange_n(&e->generation, &generation, generation + 1, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return TR_TAKEN;
    TR_STORE_RELAXED(&e->pid, pid);
    TR_STORE_RELAXED(&e->start_time, start_time);
    TR_STORE_RELEASE(&e->state, TR_ACTIVE);
    return TR_OK;
}

/* The cursor goes last: a crash between the two leaves the ledger that belongs to the old cursor in force. */
void tr_entry_commit(void *control, int64_t index, int64_t cursor, int64_t lapped, int64_t lag, int64_t now_ns) {
    struct tr_entry *e = &((struct tr_control *)control)->entry[index];
    if (cursor != TR_LOAD_RELAXED(&e->cursor)) {
        tr_set_ledger(e, cursor, lapped);
        TR_STORE_RELEASE(&e->cursor, cursor);
    }
    if (lag > e->lag_max) TR_STORE_RELAXED(&e->lag_max, lag);
    TR_STORE_RELEASE(&e->heartbeat_ns, now_ns);
}

int64_t tr_entry_lapped(const void *control, int64_t index) {
    const struct tr_entry *e = &((const struct tr_control *)control)->entry[index];
    int64_t cursor = TR_LOAD_ACQUIRE(&e->cursor);
    for (int i = 0; i < 2; i++) {
        if (TR_LOAD_ACQUIRE(&e->ledger[i].for_cursor) == cursor) return TR_LOAD_RELAXED(&e->ledger[i].lapped);
    }
    return 0;
}

void tr_entry_detach(void *control, int64_t index) {
    TR_STORE_RELEASE(&((struct tr_control *)control)->entry[index].state, TR_DETACHED);
}

/* A "wait" ring's driver saw the process of that generation die: its cursor holds the producer back no longer. A successor
 * has another generation, so a late verdict cannot strike it. */
void tr_entry_condemn(void *control, int64_t index, int64_t generation) {
    TR_STORE_RELEASE(&((struct tr_control *)control)->entry[index].dead_generation, generation);
}

/* A consumer that lost depth data asks the collector to publish that instrument's snapshot again. */
void tr_request_snapshot(void *control, int64_t instrument_index) {
    struct tr_control *c = control;
    int64_t bit = instrument_index % (TR_REQUEST_WORDS * 64);
    __atomic_fetch_or(&c->requests[bit / 64], (int64_t)(1ULL << (bit % 64)), __ATOMIC_RELEASE);
    __atomic_store_n(&c->requests_pending, 1, __ATOMIC_RELEASE);
}

/* Returns the next requested instrument index, or TR_NO_ENTRY. */
int64_t tr_take_snapshot_request(void *control) {
    struct tr_control *c = control;
    if (TR_LIKELY(TR_LOAD_RELAXED(&c->requests_pending) == 0)) return TR_NO_ENTRY;
    __atomic_exchange_n(&c->requests_pending, 0, __ATOMIC_ACQ_REL); /* acquires the bits of whoever set it */
    for (int64_t word = 0; word < TR_REQUEST_WORDS; word++) {
        int64_t bits = TR_LOAD_ACQUIRE(&c->requests[word]);
        if (bits == 0) continue;
        int64_t bit = __builtin_ctzll((unsigned long long)bits);
        __atomic_fetch_and(&c->requests[word], ~(int64_t)(1ULL << bit), __ATOMIC_ACQ_REL);
        __atomic_store_n(&c->requests_pending, 1, __ATOMIC_RELEASE);
        return word * 64 + bit;
    }
    return TR_NO_ENTRY;
}
