/* What Python (cffi) and njit code (by symbol name) call. Status codes: enum tr_status of ring.h. */
#ifndef TICKRING_RING_API_H
#define TICKRING_RING_API_H
#include "ring.h"
#include "wait.h"

/* Life cycle. Sizes, then init of fresh zeroed memory, then handles. `tr_data_init` does not write the magic:
 * `tr_data_commit` does, last; likewise for the control region. */
int64_t tr_data_bytes(int64_t stride, int64_t slots, int64_t description_bytes);
int64_t tr_control_bytes(void);
int64_t tr_data_init(void *data, int64_t stride, int64_t slots, int64_t mode, const char *description, int64_t description_bytes, const uint8_t *abi_hash, const uint8_t *ring_uuid, const uint8_t *boot_id, int64_t created_ns, int64_t first_seq);
void tr_data_commit(void *data);
int64_t tr_static_checksum(const void *data);
int64_t tr_header_fault(const void *data);
int64_t tr_control_init(void *control, const uint8_t *ring_uuid);
void tr_control_commit(void *control);
int64_t tr_producer_bytes(void);
int64_t tr_producer_open(tr_producer *p, void *data, void *control, int64_t timeout_ns);
int64_t tr_producer_take_epoch(tr_producer *p, int64_t epoch, int64_t pid, int64_t start_time, int64_t now_ns);
void tr_producer_set_state(tr_producer *p, int64_t state);
void tr_producer_heartbeat(tr_producer *p, int64_t now_ns);
int64_t tr_reader_bytes(void);
int64_t tr_reader_open(tr_reader *r, const void *data);

/* Publish. Returns the first seq of the batch, or a negative status with nothing published of the record at p->next. */
int64_t tr_publish(tr_producer *p, const void *record);
int64_t tr_publish_batch(tr_producer *p, void *records, int64_t n);
int64_t tr_room(tr_producer *p);

/* Read. tr_poll_batch: number of records copied (0: none there yet), or TR_LAPPED after moving on (lost_from, lost_to). */
int64_t tr_read(tr_reader *r, int64_t seq, void *record);
int64_t tr_poll_batch(tr_reader *r, void *records, int64_t max_records);
int64_t tr_read_many(const tr_reader *r, int64_t from_seq, int64_t n, void *records, int64_t *first_kept);
int64_t tr_head(const tr_reader *r);
int64_t tr_oldest(const tr_reader *r);

/* .latest: one slot per instrument, the same stamps, n counting the versions of that slot. */
int64_t tr_latest_store(tr_producer *p, int64_t index, const void *record);
int64_t tr_latest_load(const tr_reader *r, int64_t index, void *record);

/* Registered consumers. */
int64_t tr_entry_reserve(void *control, const char *name);
int64_t tr_entry_find(const void *control, const char *name);
int64_t tr_entry_join(void *control, const tr_reader *r, const char *name, int64_t pid, int64_t start_time, int64_t from_seq);
int64_t tr_entry_take_over(void *control, int64_t index, int64_t generation, int64_t pid, int64_t start_time);
void tr_entry_commit(void *control, int64_t index, int64_t cursor, int64_t lapped, int64_t lag, int64_t now_ns);
int64_t tr_entry_lapped(const void *control, int64_t index);
void tr_entry_detach(void *control, int64_t index);
void tr_entry_condemn(void *control, int64_t index, int64_t generation);
void tr_request_snapshot(void *control, int64_t instrument_index);
int64_t tr_take_snapshot_request(void *control);

/* Waiting: until one of `n` readers has a record. 1 record there; 0 time-out, a signal, or a producer that changed state. */
int64_t tr_wait_register(void);
int64_t tr_wait_many(tr_reader *const *readers, void *const *controls, const int64_t *entries, int64_t n, int64_t spin_ns, int64_t timeout_ns);

/* Clock and CPU. */
int64_t tr_now_ns(void);
int64_t tr_monotonic_ns(void);
int64_t tr_wait_until(int64_t due_ns, int64_t spin_ns);

/* Keeps a mapping in memory. 0, or -errno where the limit does not allow it. */
int64_t tr_lock_memory(void *address, int64_t n_bytes);
#endif
