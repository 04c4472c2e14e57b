/* Staging of captured frames and the scan of a .wslog file: wslog_api.h tells the protocol, layouts/wslog.py the bytes. */
#include "wslog_api.h"

#include "crc32.h"
#include "layouts.h"

#define STAGE_MAGIC 0x3147415453525754LL /* "TWRSTAG1" */
#define CRC_FROM 8
#define MAX_PAYLOAD_BYTES (1LL << 28)
#define ROOM_FOR_ENTRY ((int64_t)sizeof(struct tr_wslog_entry))

typedef struct tr_wslog_entry entry_header;

_Static_assert(sizeof(entry_header) == 64, "one header");
_Static_assert(sizeof(struct tr_stage_head) <= TR_STAGE_HEAD_BYTES, "the head fits before the halves");

static uint32_t header_crc(const entry_header *e) {
    return tr_crc32_of_text((const char *)e + CRC_FROM, sizeof *e - CRC_FROM);
}

/* What the collector counts as a frame that came in. */
static int is_frame(int64_t entry) { return entry == TR_WSLOG_FRAME || entry == TR_WSLOG_TOO_LARGE; }

static char *half_of(const tr_stage *s) {
    return (char *)s->head + TR_STAGE_HEAD_BYTES + s->head->half * s->head->half_bytes;
}

void tr_stage_open(tr_stage *s, void *region, int64_t half_bytes, tr_producer *events, int64_t epoch) {
    memset(s, 0, sizeof *s);
    memset(region, 0, TR_STAGE_HEAD_BYTES);
    s->head = region;
    s->events = events;
    s->head->epoch = epoch;
    s->head->half_bytes = half_bytes;
    s->head->next_entry_no = 1;
    TR_STORE_RELEASE(&s->head->magic, STAGE_MAGIC);
}

void tr_stage_attach(tr_stage *s, void *region) {
    memset(s, 0, sizeof *s);
    s->head = ((struct tr_stage_head *)region)->magic == STAGE_MAGIC ? region : NULL;
}

int64_t tr_stage_begin(tr_stage *s, int64_t entry, int64_t status, const char *key, int64_t key_bytes,
                       const char *payload, int64_t payload_bytes, int64_t ts_recv) {
    struct tr_stage_head *head = s->head;
    if (TR_UNLIKELY(s->entry != NULL))
        tr_stage_end(s, TR_WSLOG_STATUS_ABANDONED);
    const int64_t n_bytes = key_bytes + payload_bytes;
    const int64_t used = head->used[head->half];
    const int is_large = ROOM_FOR_ENTRY + n_bytes > head->half_bytes;
    if (!is_large && used + ROOM_FOR_ENTRY + n_bytes > head->half_bytes)
        return TR_STAGE_FULL;
    char *at = is_large ? s->large_header : half_of(s) + used;
    entry_header e = {
        .magic = TR_WSLOG_MAGIC,
        .payload_bytes = (uint32_t)n_bytes,
        .entry_no = head->next_entry_no,
        .ts_recv = ts_recv,
        .epoch = head->epoch,
        .first_seq = s->events->next,
        .records = TR_WSLOG_IN_HAND,
        .connection = (uint32_t)s->connection,
        .entry = (uint8_t)entry,
        .status = (uint8_t)status,
        .key_bytes = (uint16_t)key_bytes,
    };
    if (is_large) {
        e.payload_crc32 = key_bytes ? tr_crc32_of_text(key, (size_t)key_bytes) : 0;
        e.payload_crc32 = key_bytes ? tr_crc32_portable(e.payload_crc32, payload, (size_t)payload_bytes)
                                    : tr_crc32_of_text(payload, (size_t)payload_bytes);
    } else {
        char *copy = at + ROOM_FOR_ENTRY;
        memcpy(copy, key, (size_t)key_bytes);
        memcpy(copy + key_bytes, payload, (size_t)payload_bytes);
        e.payload_crc32 = tr_crc32_of_text(copy, (size_t)n_bytes);
    }
    memcpy(at, &e, sizeof e); /* S1; its CRC is made by S4, or by whoever mends the entry in hand */
    head->next_entry_no++;
    head->frames += is_frame(entry);
    s->frames_in_half += !is_large && is_frame(entry);
    s->entry = at;
    if (is_large)
        return TR_STAGE_LARGE;
    TR_STORE_RELEASE(&head->open_at, 1 + (at - (char *)head));                      /* S2 */
    TR_STORE_RELEASE(&head->used[head->half], used + ROOM_FOR_ENTRY + n_bytes);     /* S3 */
    return TR_STAGED;
}

int64_t tr_stage_frame(tr_stage *s, const char *frame, int64_t n_bytes, int64_t ts_recv) {
    return tr_stage_begin(s, TR_WSLOG_FRAME, TR_WSLOG_STATUS_IN_HAND, frame, 0, frame, n_bytes, ts_recv);
}

int64_t tr_stage_end(tr_stage *s, int64_t status) {
    if (TR_UNLIKELY(s->entry == NULL))
        return 0;
    entry_header e;
    memcpy(&e, s->entry, sizeof e);
    e.records = (uint32_t)(s->events->next - e.first_seq);
    if (status >= 0)
        e.status = (uint8_t)status;
    e.header_crc32 = header_crc(&e);
    memcpy(s->entry, &e, sizeof e); /* S4 */
    const int64_t is_large = s->entry == s->large_header;
    s->entry = NULL;
    TR_STORE_RELEASE(&s->head->open_at, 0); /* S5 */
    return is_large;
}

void tr_stage_skip(tr_stage *s, int64_t entry) {
    s->head->next_entry_no++;
    s->head->frames += is_frame(entry);
    s->head->frames_lost += is_frame(entry);
}

int64_t tr_stage_turn(tr_stage *s) {
    const int64_t before = s->head->half;
    TR_STORE_RELEASE(&s->head->used[1 - before], 0);
    TR_STORE_RELEASE(&s->head->half, 1 - before);
    s->frames_in_half = 0;
    return s->head->used[before];
}

int64_t tr_stage_mend(tr_stage *s) {
    if (s->head->open_at == 0)
        return 0;
    char *at = (char *)s->head + s->head->open_at - 1;
    entry_header e;
    memcpy(&e, at, sizeof e);
    e.records = TR_WSLOG_IN_HAND;
    e.status = e.entry == TR_WSLOG_FRAME ? TR_WSLOG_STATUS_IN_HAND : e.status;
    e.header_crc32 = header_crc(&e);
    memcpy(at, &e, sizeof e);
    s->head->open_at = 0;
    return 1;
}

/* ---- reading ---- */

static int is_header(const char *bytes) {
    entry_header e;
    memcpy(&e, bytes, sizeof e);
    return e.magic == TR_WSLOG_MAGIC && (int64_t)e.payload_bytes <= MAX_PAYLOAD_BYTES &&
           e.key_bytes <= e.payload_bytes && e.header_crc32 == header_crc(&e);
}

int64_t tr_wslog_scan(const char *bytes, int64_t n_bytes, int64_t at, void *entries, int64_t *offsets, int64_t most,
                      int64_t *stop) {
    int64_t found = 0;
    stop[1] = 0;
    for (; n_bytes - at >= ROOM_FOR_ENTRY; found++) {
        stop[1] = found == most ? 1 : is_header(bytes + at) ? 0 : 2;
        if (stop[1])
            break;
        entry_header *e = (entry_header *)entries + found;
        memcpy(e, bytes + at, sizeof *e);
        const int64_t payload = at + ROOM_FOR_ENTRY;
        if ((int64_t)e->payload_bytes > n_bytes - payload)
            break;
        if (tr_crc32_of_text(bytes + payload, e->payload_bytes) != e->payload_crc32) {
            stop[1] = 2;
            break;
        }
        offsets[found] = payload;
        at = payload + e->payload_bytes;
    }
    stop[0] = at;
    return found;
}

int64_t tr_wslog_find(const char *bytes, int64_t n_bytes, int64_t at) {
    const uint32_t magic = TR_WSLOG_MAGIC;
    for (; n_bytes - at >= ROOM_FOR_ENTRY; at++) {
        const char *next = memchr(bytes + at, (int)(magic & 0xFF), (size_t)(n_bytes - at - ROOM_FOR_ENTRY + 1));
        if (next == NULL)
            return -1;
        at = next - bytes;
        if (is_header(next))
            return at;
    }
    return -1;
}
