/* The frames that a venue sends most, recognised byte by byte and taken in one call. Code: native/live_forms.c. */
#ifndef TICKRING_LIVE_FORMS_API_H
#define TICKRING_LIVE_FORMS_API_H
#include "live_api.h"

typedef struct tr_forms tr_forms;

/* What a form's frames are. */
enum tr_form_kind {
    TR_FORM_LEVELS = 1,    /* a book update for tr_live_levels */
    TR_FORM_ROWS = 2,      /* a book update for tr_live_rows */
    TR_FORM_TRADE = 3,     /* one trade */
    TR_FORM_TRADE_ROWS = 4, /* trades for tr_live_trade_row */
    TR_FORM_LEVEL = 5       /* a book update of one level; the word of its side is that of a taker: who buys, a bid */
};

/* When a frame may be taken without the decoder; the numbers are those that the form names, `seq` the instrument's. */
enum tr_form_rule {
    TR_RULE_NONE = 0,
    TR_RULE_SPANS = 1,      /* chained, first <= seq + 1 <= last */
    TR_RULE_PREVIOUS = 2,   /* chained, previous == seq */
    TR_RULE_NEXT = 3,       /* the book valid, last == seq + 1 */
    TR_RULE_CONNECTION = 4, /* last == the number that the caller expects */
    TR_RULE_NEWER = 5,      /* not the frame before again, and not older by its time's text */
    TR_RULE_NEXT_ID = 6,    /* the trade's id follows the last one's */
    TR_RULE_ALLOWED = 7     /* only after tr_forms_allow */
};

enum tr_form_status { TR_FORM_NONE = -1 };

/* `max_frame_bytes`: longer frames are left alone. NULL when memory is short. */
tr_forms *tr_forms_new(tr_outlet *o, int64_t max_frame_bytes);
void tr_forms_free(tr_forms *f);

/* Add a form: `text` as the venue writes it, with % and a letter where it differs (native/form_text.h). `flags` go to the
   call of native/live*_api.h; `buy` and `sell` are the words of the taker's side. 0, or -1: the text is no form. */
int64_t tr_forms_add(tr_forms *f, const char *text, int64_t bytes, int64_t kind, int64_t rule, int64_t flags, const char *buy, const char *sell);

/* Make a symbol known; returns its place, or -1: memory is short, or it has more than 64 bytes. The live book outlives the forms, or
   tr_forms_drop is called before. A symbol entered again goes to the new book. */
int64_t tr_forms_enter(tr_forms *f, const char *symbol, int64_t bytes, tr_live *l);
void tr_forms_drop(tr_forms *f, int64_t place);
void tr_forms_allow(tr_forms *f, int64_t place, int64_t is_allowed);

/* Whether the caller wants to look at the instrument after each of its book updates. */
void tr_forms_watch(tr_forms *f, int64_t place, int64_t is_watched);

/* The frame and its time that TR_RULE_NEWER holds the next one against; 0 bytes: none. */
void tr_forms_keep(tr_forms *f, int64_t place, const char *frame, int64_t frame_bytes, const char *time, int64_t time_bytes);
const char *tr_forms_kept(tr_forms *f, int64_t place, int64_t *frame_bytes, int64_t *time_bytes);

/* Take a frame. TR_FORM_NONE: nothing was done, decode it. 0: decoded, counted, published. Else counted as well, and
   32 x (place + 1) + 16 x (it was trades) + its status, so that the caller can go on as after a refusal, or look. */
int64_t tr_forms_take(tr_forms *f, const char *frame, int64_t bytes, int64_t number, int64_t ts_recv);

/* Frames taken so far. */
int64_t tr_forms_taken(const tr_forms *f);
#endif
