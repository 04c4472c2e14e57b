/*
 * The frames that a venue sends most are taken in one call: matched against forms (native/form_text.h), then handed
 * to native/live*.c.
 *
 * Why it is right  A form takes only text that is valid JSON (native/plain_text.h) of the shape that the decoder's typed
 * struct has, and calls what the decoder calls with the texts that it would pass. Whatever is unexpected (another byte,
 * an unknown symbol, a number out of order, digits that do not fit) leaves everything as it was and the frame to the
 * decoder, which alone judges. tests/test_collectors_forms.py holds the two against each other.
 */
#include "live_forms_api.h"

#include <stddef.h>
#include <stdlib.h>

#include "form_rows.h"
#include "live.h"
#include "live_feed_api.h"

#define FORMS 8
#define SYMBOL_BYTES 64
#define LINE_BYTES 64

struct known {
    tr_live *live; /* NULL: dropped */
    int64_t symbol_bytes;
    char symbol[SYMBOL_BYTES];
    int64_t is_allowed;
    int64_t is_watched;
    char *kept; /* a frame, then its time's text */
    int64_t kept_bytes;
    int64_t kept_time_bytes;
    int64_t kept_capacity;
};

struct tr_forms {
    tr_outlet *outlet;
    int64_t max_frame_bytes;
    int64_t taken;
    int64_t n_forms;
    int64_t n_known;
    int64_t known_capacity;
    int64_t slots; /* of the hash table, a power of two, at most half of them used */
    int32_t *slot; /* place + 1, 0: free */
    struct known *known;
    struct tr_form form[FORMS];
};

/* ---- making ---- */

tr_forms *tr_forms_new(tr_outlet *o, int64_t max_frame_bytes) {
    tr_forms *f = calloc(1, sizeof *f);
    if (f) {
        f->outlet = o;
        f->max_frame_bytes = max_frame_bytes;
    }
    return f;
}

void tr_forms_free(tr_forms *f) {
    if (!f)
        return;
    for (int64_t i = 0; i < f->n_known; i++)
        free(f->known[i].kept);
    for (int64_t i = 0; i < f->n_forms; i++)
        free(f->form[i].text);
    free(f->known);
    free(f->slot);
    free(f);
}

int64_t tr_forms_add(tr_forms *f, const char *text, int64_t bytes, int64_t kind, int64_t rule, int64_t flags,
                     const char *buy, const char *sell) {
    if (f->n_forms == FORMS || strlen(buy) > TR_FORM_WORD_BYTES || strlen(sell) > TR_FORM_WORD_BYTES)
        return -1;
    struct tr_form *form = &f->form[f->n_forms];
    memset(form, 0, sizeof *form);
    form->text = malloc((size_t)bytes + 1);
    if (!form->text)
        return -1;
    memcpy(form->text, text, (size_t)bytes);
    form->kind = kind;
    form->rule = rule;
    form->flags = flags | TR_FLAG_ENDS_FRAME;
    strcpy(form->word[0], buy);
    strcpy(form->word[1], sell);
    if (!tr_form_split(form, bytes)) {
        free(form->text);
        return -1;
    }
    f->n_forms++;
    return 0;
}

/* ---- symbols ---- */

static uint64_t hash_of(const char *p, int64_t n) {
    uint64_t h = (uint64_t)n;
    for (; n > 0; p += 8, n -= 8) {
        uint64_t chunk = 0;
        memcpy(&chunk, p, n < 8 ? (size_t)n : 8);
        h = (h ^ chunk) * UINT64_C(0x9E3779B97F4A7C15);
        h ^= h >> 29;
    }
    return h;
}

/* The slot that holds the symbol, or the free one where it belongs. */
static int32_t *slot_of(const tr_forms *f, const char *symbol, int64_t bytes) {
    const uint64_t mask = (uint64_t)f->slots - 1;
    for (uint64_t at = hash_of(symbol, bytes) & mask;; at = (at + 1) & mask) {
        int32_t *slot = &f->slot[at];
        if (*slot == 0)
            return slot;
        const struct known *known = &f->known[*slot - 1];
        if (known->symbol_bytes == bytes && tr_same_bytes(known->symbol, symbol, bytes))
            return slot;
    }
}

static struct known *known_by(const tr_forms *f, const struct tr_span *symbol) {
    if (f->slots == 0 || symbol->bytes > SYMBOL_BYTES)
        return NULL;
    const int32_t place = *slot_of(f, symbol->text, symbol->bytes);
    struct known *known = place ? &f->known[place - 1] : NULL;
    return known && known->live ? known : NULL;
}

/* Room for one more; 0 when memory is short. */
static int grow(tr_forms *f) {
    if (f->n_known < f->known_capacity)
        return 1;
    const int64_t capacity = f->known_capacity ? 2 * f->known_capacity : 64;
    struct known *known = realloc(f->known, (size_t)capacity * sizeof *known);
    int32_t *slot = calloc((size_t)(2 * capacity), sizeof *slot);
    if (known)
        f->known = known;
    if (!known || !slot) {
        free(slot);
        return 0;
    }
    free(f->slot);
    f->slot = slot;
    f->slots = 2 * capacity;
    f->known_capacity = capacity;
    for (int64_t i = 0; i < f->n_known; i++)
        *slot_of(f, known[i].symbol, known[i].symbol_bytes) = (int32_t)(i + 1);
    return 1;
}

int64_t tr_forms_enter(tr_forms *f, const char *symbol, int64_t bytes, tr_live *l) {
    if (bytes <= 0 || bytes > SYMBOL_BYTES || !grow(f))
        return -1;
    int32_t *slot = slot_of(f, symbol, bytes);
    if (*slot == 0) {
        struct known *known = &f->known[f->n_known];
        memset(known, 0, sizeof *known);
        memcpy(known->symbol, symbol, (size_t)bytes);
        known->symbol_bytes = bytes;
        *slot = (int32_t)++f->n_known;
    }
    struct known *known = &f->known[*slot - 1];
    known->live = l;
    known->is_allowed = known->is_watched = 0;
    known->kept_bytes = known->kept_time_bytes = 0;
    return *slot - 1;
}

void tr_forms_drop(tr_forms *f, int64_t place) { f->known[place].live = NULL; }

void tr_forms_allow(tr_forms *f, int64_t place, int64_t is_allowed) { f->known[place].is_allowed = is_allowed; }

void tr_forms_watch(tr_forms *f, int64_t place, int64_t is_watched) { f->known[place].is_watched = is_watched; }

static void keep(struct known *known, const char *frame, int64_t frame_bytes, const struct tr_span *time) {
    const int64_t bytes = frame_bytes + time->bytes;
    if (bytes > known->kept_capacity) {
        char *wider = realloc(known->kept, (size_t)(2 * bytes));
        if (!wider) {
            known->kept_bytes = known->kept_time_bytes = 0; /* a repeat of this frame is then applied once more */
            return;
        }
        known->kept = wider;
        known->kept_capacity = 2 * bytes;
    }
    if (bytes > 0) {
        memcpy(known->kept, frame, (size_t)frame_bytes);
        memcpy(known->kept + frame_bytes, time->text, (size_t)time->bytes);
    }
    known->kept_bytes = frame_bytes;
    known->kept_time_bytes = time->bytes;
}

void tr_forms_keep(tr_forms *f, int64_t place, const char *frame, int64_t frame_bytes, const char *time,
                   int64_t time_bytes) {
    const struct tr_span text = {time, time_bytes};
    keep(&f->known[place], frame, frame_bytes, &text);
}

const char *tr_forms_kept(tr_forms *f, int64_t place, int64_t *frame_bytes, int64_t *time_bytes) {
    const struct known *known = &f->known[place];
    *frame_bytes = known->kept_bytes;
    *time_bytes = known->kept_time_bytes;
    return known->kept;
}

/* ---- matching ---- */

/* What the frame will need of its instrument is on its way while the rest of the text is read: with a thousand
   instruments little of one is still in the near caches. */
static void warm(const struct known *known) {
    const char *live = (const char *)known->live;
    for (int64_t at = 0; at < (int64_t)sizeof *known->live; at += LINE_BYTES)
        __builtin_prefetch(live + at);
    for (int64_t at = 0; at < known->kept_bytes; at += LINE_BYTES)
        __builtin_prefetch(known->kept + at);
}

/* The same for its book, once the instrument is there. */
static void warm_book(const tr_live *l) {
    const char *tail = (const char *)l->tail;
    for (int64_t at = 0; at < (int64_t)offsetof(struct tr_live_tail, crc_end); at += LINE_BYTES)
        __builtin_prefetch(tail + at);
    __builtin_prefetch(l->book);
}

/* The instrument is known: its rows may be read at its scale, straight into the outlet's scratch. */
static void expect_rows(const tr_forms *f, const struct tr_form *form, const struct known *known, struct tr_form_rows *rows) {
    const tr_live *l = known->live;
    warm(known);
    rows->is_read = form->kind == TR_FORM_ROWS && l->version > 0;
    rows->scale[0] = l->price_scale;
    rows->scale[1] = l->qty_scale;
    rows->pairs = f->outlet->pairs;
    rows->capacity = f->outlet->max_levels;
}

/* Rows in one pass where they are of the shapes that have one; else stepped over, as any other part. */
static const char *read_part(const struct tr_form *form, const struct tr_form_part *part, const char *p, const char *end,
                             struct tr_form_match *m, struct tr_form_rows *rows) {
    if (rows->is_read && (part->what == 'b' || part->what == 'a' || part->what == 'r')) {
        const char *past = part->what == 'r' ? tr_form_both_sides(rows, p, end)
                                             : tr_form_side(rows, p, end, part->what == 'b' ? TR_BID : TR_ASK);
        rows->is_read = past != NULL;
        if (past) {
            tr_form_read_span(p, past, part->what == 'a' ? &m->asks : &m->bids);
            return past;
        }
    }
    return tr_form_read_part(form, part, p, end, m);
}

/* Whether the frame is of the form; *known is then its instrument, NULL where it is none of ours. */
static int matches(const tr_forms *f, const struct tr_form *form, const char *p, const char *end, struct tr_form_match *m,
                   struct tr_form_rows *rows, struct known **known) {
    for (const struct tr_form_part *part = form->parts; part < form->parts + form->n; part++) {
        if (part->what) {
            p = read_part(form, part, p, end, m, rows);
            if (!p)
                return 0;
            if (part->what == 'S') {
                *known = known_by(f, &m->symbol);
                if (*known)
                    expect_rows(f, form, *known, rows);
            }
        } else {
            if (end - p < part->bytes || !tr_same_bytes(p, part->text, part->bytes))
                return 0;
            p += part->bytes;
        }
    }
    return p == end;
}

/* ---- taking ---- */

/* Neither the frame before again, nor older than it by times written alike. */
static int is_newer(const struct known *known, const char *frame, int64_t bytes, const struct tr_span *time) {
    if (!known->live->book_is_valid)
        return 1;
    if (known->kept_bytes == bytes && tr_same_bytes(known->kept, frame, bytes))
        return 0;
    return known->kept_time_bytes != time->bytes ||
           memcmp(time->text, known->kept + known->kept_bytes, (size_t)time->bytes) >= 0;
}

static int follows(const struct tr_form *form, const struct known *known, const struct tr_form_match *m, int64_t number) {
    const tr_live *l = known->live;
    switch (form->rule) {
    case TR_RULE_SPANS: return l->is_chained && m->first <= l->seq + 1 && l->seq + 1 <= m->last;
    case TR_RULE_PREVIOUS: return l->is_chained && m->previous == l->seq;
    case TR_RULE_NEXT: return l->book_is_valid && m->last == l->seq + 1;
    case TR_RULE_CONNECTION: return m->last == number;
    case TR_RULE_NEXT_ID: return m->id == l->last_trade_id + 1;
    case TR_RULE_ALLOWED: return known->is_allowed != 0;
    default: return 1;
    }
}

static int64_t take_book(const struct tr_form *form, const struct known *known, const struct tr_form_match *m,
                         struct tr_form_rows *rows, int64_t ts_recv) {
    tr_live *l = known->live;
    if (!l->has_book || (form->names_depth && m->depth != l->depth) || m->checksum > UINT32_MAX)
        return TR_FORM_NONE;
    if (form->kind == TR_FORM_LEVELS) {
        /* Two bytes are an empty array: the side is absent. */
        return tr_live_levels(l, form->flags, m->bids.text, m->bids.bytes > 2 ? m->bids.bytes : 0, m->asks.text,
                              m->asks.bytes > 2 ? m->asks.bytes : 0, m->time.text, m->time.bytes, m->checksum,
                              ts_recv);
    }
    if (form->kind == TR_FORM_LEVEL && !tr_form_level(m, rows))
        return TR_FORM_NONE;
    const int64_t status =
        rows->is_read ? tr_live_read_rows(l, form->flags, rows->n, rows->ts_newest, m->time.text, m->time.bytes, m->last, ts_recv)
                      : tr_live_rows(l, form->flags, m->bids.text, m->bids.bytes, m->asks.text, m->asks.bytes,
                                     m->time.text, m->time.bytes, m->checksum, m->last, ts_recv);
    if (status == TR_FRAME_OK)
        l->seq = m->last;
    return status;
}

static int64_t stage_rows(tr_live *l, const struct tr_form *form, const struct tr_span *rows, int64_t ts_recv) {
    const char *end = rows->text + rows->bytes;
    for (const char *row = rows->text + 1; row < end && *row == '[';) {
        const char *past = tr_plain_row(row, end);
        const int64_t status = tr_live_trade_row(l, form->flags, row, past - row, ts_recv);
        if (status)
            return status;
        row = past + 1;
    }
    return TR_FRAME_OK;
}

static int64_t take_trades(tr_forms *f, const struct tr_form *form, const struct known *known, const struct tr_form_match *m,
                           int64_t ts_recv) {
    tr_live *l = known->live;
    int64_t status;
    if (!l->version)
        return TR_FORM_NONE; /* the decoder opens the first */
    if (form->kind == TR_FORM_TRADE_ROWS)
        status = stage_rows(l, form, &m->rows, ts_recv);
    else if (m->id == 0)
        return TR_FORM_NONE;
    else
        status = tr_live_trade(l, form->flags, m->price.text, m->price.bytes, m->qty.text, m->qty.bytes,
                               m->time.text, m->time.bytes, m->id, m->side, ts_recv);
    if (status) {
        tr_outlet_abandon(f->outlet);
        return TR_FORM_NONE;
    }
    return tr_outlet_commit(f->outlet, TR_FLAG_ENDS_FRAME);
}

static int64_t act(tr_forms *f, const struct tr_form *form, struct known *known, const char *frame, int64_t bytes,
                   const struct tr_form_match *m, struct tr_form_rows *rows, int64_t number, int64_t ts_recv) {
    if (!known || !follows(form, known, m, number))
        return TR_FORM_NONE;
    warm_book(known->live);
    const int is_trades = form->kind == TR_FORM_TRADE || form->kind == TR_FORM_TRADE_ROWS;
    if (form->rule == TR_RULE_NEWER && !is_newer(known, frame, bytes, &m->time))
        return TR_FORM_NONE;
    const int64_t status =
        is_trades ? take_trades(f, form, known, m, ts_recv) : take_book(form, known, m, rows, ts_recv);
    if (status < 0)
        return TR_FORM_NONE;
    if (form->rule == TR_RULE_NEWER)
        keep(known, frame, bytes, &m->time);
    f->taken++;
    if (status == TR_FRAME_OK && (is_trades || !known->is_watched))
        return 0;
    return 32 * (known - f->known + 1) + 16 * is_trades + status;
}

int64_t tr_forms_take(tr_forms *f, const char *frame, int64_t bytes, int64_t number, int64_t ts_recv) {
    if (bytes > f->max_frame_bytes)
        return TR_FORM_NONE;
    for (int64_t at = 0; at < bytes && at < 1024; at += LINE_BYTES)
        __builtin_prefetch(frame + at);
    for (int64_t i = 0; i < f->n_forms; i++) {
        struct tr_form_match m = {.side = 0};
        struct tr_form_rows rows = {.is_read = 0};
        struct known *known = NULL;
        if (matches(f, &f->form[i], frame, frame + bytes, &m, &rows, &known))
            return act(f, &f->form[i], known, frame, bytes, &m, &rows, number, ts_recv);
    }
    return TR_FORM_NONE;
}

int64_t tr_forms_taken(const tr_forms *f) { return f->taken; }
