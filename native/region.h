/* The bytes of a ring's two regions, .data and .ctl, each offset asserted.
 *
 * Layout, Protocol and Failure are told once, in ring.h; this file only names the words.
 * Words that another process may write while we read are plain int64_t here and are reached through
 * the TR_LOAD and TR_STORE macros of atomics.h alone.
 */
#ifndef TICKRING_REGION_H
#define TICKRING_REGION_H

#include <stddef.h>
#include <stdint.h>

#define TR_MAGIC_DATA 0x31474e524b434954LL    /* "TICKRNG1" */
#define TR_MAGIC_CONTROL 0x314c54434b434954LL /* "TICKCTL1" */
#define TR_LAYOUT_VERSION 1
#define TR_BYTE_ORDER 0x01020304
#define TR_SEQ_END (1LL << 61) /* the first seq that a producer refuses */
#define TR_EPOCHS_KEPT 64
#define TR_DESCRIPTION_OFFSET 4096
#define TR_CONSUMERS 32
#define TR_NAME_BYTES 32
#define TR_REQUEST_WORDS 128

enum tr_mode { TR_OVERWRITE = 0, TR_WAIT = 1, TR_LATEST = 2 };
enum tr_ring_state { TR_INIT = 0, TR_LIVE = 1, TR_RETIRED = 2, TR_STOPPED = 3 };
enum tr_consumer_state { TR_FREE = 0, TR_RESERVED = 1, TR_JOINING = 2, TR_ACTIVE = 3, TR_DETACHED = 4 };

struct tr_epoch {
    int64_t epoch;
    int64_t first_seq;
};

struct tr_data {
    /* 0: static, written once before the magic */
    int64_t magic;
    int32_t layout_version;
    int32_t byte_order;
    int64_t header_bytes;
    int64_t slot_stride;
    int64_t slots;
    int64_t mask;
    int32_t mode;
    int32_t description_bytes;
    uint8_t abi_hash[16];
    uint8_t ring_uuid[16];
    uint8_t boot_id[16];
    int64_t created_ns;
    int64_t first_seq; /* the seq that the first record of this ring has */
    int64_t static_checksum; /* of bytes 8 .. 119: a damaged header is refused, not believed */
    /* 128: the next seq to publish; written by the producer after every record */
    int64_t head;
    uint8_t pad_head[120];
    /* 256: warm, written by the producer a few times a second */
    int64_t epoch;
    int64_t state;
    int64_t producer_pid;
    int64_t producer_start_time;
    int64_t heartbeat_ns;
    int64_t epochs_taken;
    struct tr_epoch epochs[TR_EPOCHS_KEPT];
    uint8_t pad_warm[208];
    /* 1536: counters, written by the producer */
    int64_t published_bytes;
    int64_t back_pressure_ns;
    int64_t restarts;
    uint8_t pad_stats[2536];
};

/* One registered consumer: three times 128 bytes, by who writes them and how often. */
struct tr_ledger {
    int64_t for_cursor;
    int64_t lapped;
};

struct tr_entry {
    int64_t cursor; /* the seq this consumer can restart from */
    int64_t state;
    int64_t heartbeat_ns;
    int32_t sleep_word; /* futex: 1 asleep, 0 awake */
    int32_t pad_word;
    uint8_t pad_hot[96];
    char name[TR_NAME_BYTES];
    int64_t pid;
    int64_t start_time;
    int64_t generation;
    int64_t start_seq;
    int64_t lag_max;
    struct tr_ledger ledger[2]; /* the one whose for_cursor equals cursor holds */
    int64_t required; /* 1: a "wait" ring publishes nothing without this consumer */
    uint8_t pad_cold[16];
    int64_t dead_generation; /* the generation found dead, -1: none; written by the supervisor alone */
    uint8_t pad_verdict[120];
};

struct tr_control {
    int64_t magic;
    int32_t layout_version;
    int32_t byte_order;
    int64_t entries;
    int64_t total_bytes;
    uint8_t ring_uuid[16];
    int64_t membarrier_ready; /* 1: the producer has registered, so a sleeper needs no short time-out */
    uint8_t pad_static[72];
    int64_t sleepers; /* bit i: entry i may be asleep */
    uint8_t pad_sleepers[120];
    int64_t requests_pending; /* not 0: look at the bitmap below */
    uint8_t pad_requests[120];
    int64_t requests[TR_REQUEST_WORDS]; /* bit: republish the snapshot of that instrument */
    uint8_t pad_entries[128];
    struct tr_entry entry[TR_CONSUMERS];
};

_Static_assert(offsetof(struct tr_data, static_checksum) == 120, "checksum closes the static part");
_Static_assert(offsetof(struct tr_data, head) == 128, "head is alone on its 128 bytes");
_Static_assert(offsetof(struct tr_data, epoch) == 256, "warm");
_Static_assert(offsetof(struct tr_data, published_bytes) == 1536, "stats");
_Static_assert(sizeof(struct tr_data) == TR_DESCRIPTION_OFFSET, "description");
_Static_assert(sizeof(struct tr_entry) == 384, "entry");
_Static_assert(offsetof(struct tr_entry, name) == 128, "cold");
_Static_assert(offsetof(struct tr_entry, dead_generation) == 256, "verdict");
_Static_assert(offsetof(struct tr_control, sleepers) == 128, "sleepers");
_Static_assert(offsetof(struct tr_control, requests_pending) == 256, "requests pending");
_Static_assert(offsetof(struct tr_control, requests) == 384, "requests");
_Static_assert(offsetof(struct tr_control, entry) == 1536, "entries");

#endif
