/* Frames on their way to a .wslog file, and back out of one: the staging memory and the scan. Code: native/wslog.c.
 *
 * Protocol of the staging region (shared memory, one writer). 4,096 bytes of `struct tr_stage_head`, then two halves.
 *     S1  begin: payload, then the entry's header, IN_HAND and without its own CRC, after the last whole entry of the half
 *     S2  open_at <- where it begins + 1                     (release)
 *     S3  used[half] <- one past it                          (release)
 *     ... the frame is decoded and its records are published ...
 *     S4  end: records, status, header CRC of the entry
 *     S5  open_at <- 0                                       (release)
 * The thread that writes a half to disk gets it whole: halves change only between S5 and S1.
 *
 * Failure. A kill between S1 and S3 loses the frame in hand alone; from S3 on its payload is safe: whoever salvages the
 * region writes the header of the entry that open_at names anew, as IN_HAND, with its CRC.
 */
#ifndef TICKRING_WSLOG_API_H
#define TICKRING_WSLOG_API_H
#include "ring.h"

enum tr_stage_limits { TR_STAGE_HEAD_BYTES = 4096, TR_STAGE_PATH_BYTES = 1024 };

/* What a staging region opens with. */
struct tr_stage_head {
    int64_t magic;
    int64_t epoch;
    int64_t half_bytes;
    int64_t next_entry_no;
    int64_t frames;      /* that came in, of this process and those before it */
    int64_t frames_lost; /* of these: what no file holds */
    int64_t open_at;     /* 1 + offset from the region's start of the entry in hand; 0: none */
    int64_t half;        /* that is being filled */
    int64_t used[2];     /* bytes of whole entries */
    int64_t safe_part; /* file of this part: entries begin at byte safe_at, the last that reached it among them */
    int64_t safe_at;
    char path[TR_STAGE_PATH_BYTES]; /* the folder of the files */
};

/* The writer's side; private memory. */
typedef struct tr_stage {
    struct tr_stage_head *head;
    char *entry;            /* in hand: in a half, or large_header; NULL: none */
    const tr_producer *events;
    int64_t connection;
    int64_t frames_in_half;
    char large_header[64];  /* of an entry that no half can hold: its payload stays where it is */
} tr_stage;

enum tr_stage_status { TR_STAGED = 0, TR_STAGE_FULL = 1, TR_STAGE_LARGE = 2 };

void tr_stage_open(tr_stage *s, void *region, int64_t half_bytes, tr_producer *events, int64_t epoch);
void tr_stage_attach(tr_stage *s, void *region);

/* S1 to S3 for an entry of any kind. STAGE_FULL: nothing was done, hand the half over and call again. STAGE_LARGE: only the
   header was made, in large_header; the caller keeps the payload and takes the header after tr_stage_end. An entry that
   is still in hand was abandoned by its decoder, and is ended as that first. */
int64_t tr_stage_begin(tr_stage *s, int64_t entry, int64_t status, const char *key, int64_t key_bytes, const char *payload, int64_t payload_bytes, int64_t ts_recv);

/* The same for a frame: the call that is made for each. */
int64_t tr_stage_frame(tr_stage *s, const char *frame, int64_t n_bytes, int64_t ts_recv);

/* S4 and S5. `status` -1: as it was given to begin. Returns 1 when the entry is a large one, else 0. */
int64_t tr_stage_end(tr_stage *s, int64_t status);

/* Count an entry that cannot be kept: the hole in the numbers tells it. */
void tr_stage_skip(tr_stage *s, int64_t entry);

/* Go on in the other half, which must be on disk; returns the bytes used of the one before. */
int64_t tr_stage_turn(tr_stage *s);

/* After a crash: make the entry in hand readable. Returns 1 if there was one. */
int64_t tr_stage_mend(tr_stage *s);

/* Copy the headers of the whole entries of `bytes` from `at` on to `entries`, and where each payload begins to `offsets`;
   returns how many. stop[0]: where it stopped; stop[1]: 0 at the end or before an entry that goes beyond it, 1 because
   `most` were found, 2 because what comes there is no whole entry. */
int64_t tr_wslog_scan(const char *bytes, int64_t n_bytes, int64_t at, void *entries, int64_t *offsets, int64_t most, int64_t *stop);

/* Where the next sound entry header begins, from `at` on; -1: nowhere. */
int64_t tr_wslog_find(const char *bytes, int64_t n_bytes, int64_t at);
#endif
