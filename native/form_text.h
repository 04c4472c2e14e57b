/*
 * A frame's text against a form's parts: each matches byte for byte, or not at all, and tells where its value is.
 *
 * A form is the frame's text with a % and a letter where frames differ:
 *     %S symbol          %p price   %q quantity   %i trade id   %t time   %s word of the side   %m buyer is the maker
 *     %b rows of bids    %a rows of asks    %r rows of both sides    %x rows of trades    %c checksum    %d depth
 *     %f first, %l last, %v previous number        %n number, %_ text up to the form's next byte: not looked at
 * Of a letter that comes twice the later one counts.
 */
#ifndef TICKRING_FORM_TEXT_H
#define TICKRING_FORM_TEXT_H

#include "plain_text.h"

#define TR_FORM_PARTS 40
#define TR_FORM_WORD_BYTES 8
#define TR_FORM_DIGITS 18

struct tr_form_part {
    char what; /* 0: literal bytes */
    const char *text;
    int64_t bytes;
};

struct tr_form {
    struct tr_form_part parts[TR_FORM_PARTS];
    int64_t n;
    char *text;
    int64_t kind;
    int64_t rule;
    int64_t flags;
    int64_t names_depth;
    char word[2][TR_FORM_WORD_BYTES + 1]; /* of a taker who buys, who sells */
};

struct tr_span {
    const char *text;
    int64_t bytes;
};

struct tr_form_match {
    struct tr_span symbol, price, qty, time, bids, asks, rows;
    int64_t id, side, checksum, depth, first, last, previous;
};

/* Cut the text into literals and letters; 0 when it is no form. */
static inline int tr_form_split(struct tr_form *form, int64_t bytes) {
    const char *p = form->text;
    const char *end = p + bytes;
    while (p < end) {
        if (form->n == TR_FORM_PARTS)
            return 0;
        struct tr_form_part *part = &form->parts[form->n++];
        if (*p == '%') {
            if (end - p < 3 || !strchr("Spqitsmbarxcdflvn_", p[1]) || p[2] == '%')
                return 0;
            part->what = p[1];
            form->names_depth |= p[1] == 'd';
            p += 2;
            continue;
        }
        part->text = p;
        while (p < end && *p != '%')
            p++;
        part->bytes = p - part->text;
    }
    return form->n > 0 && form->parts[0].what == 0;
}

/* A whole number without sign and leading zeros, of at most 18 digits. */
static inline const char *tr_form_read_whole(const char *p, const char *end, int64_t *value) {
    const char *first = p;
    int64_t v = 0;
    for (; p < end && tr_is_digit(*p); p++) {
        if (p - first == TR_FORM_DIGITS)
            return NULL;
        v = v * 10 + (*p - '0');
    }
    *value = v;
    return p == first || (*first == '0' && p - first > 1) ? NULL : p;
}

/* Plain text up to the form's next byte. */
static inline const char *tr_form_read_text(const char *p, const char *end, char stop, struct tr_span *out) {
    out->text = p;
    if (stop == '"')
        p = tr_plain_end(p, end);
    else
        while (p < end && tr_is_plain(*p) && *p != stop)
            p++;
    out->bytes = p - out->text;
    return out->bytes > 0 ? p : NULL;
}

static inline const char *tr_form_read_span(const char *p, const char *past, struct tr_span *out) {
    out->text = p;
    out->bytes = past ? past - p : 0;
    return past;
}

/* "true": the buyer was the maker, so the taker sold. */
static inline const char *tr_form_read_maker(const char *p, const char *end, int64_t *side) {
    if (end - p > 4 && memcmp(p, "true", 4) == 0) {
        *side = -1;
        return p + 4;
    }
    *side = 1;
    return end - p > 5 && memcmp(p, "false", 5) == 0 ? p + 5 : NULL;
}

static inline const char *tr_form_read_side(const struct tr_form *form, const char *p, const char *end, int64_t *side) {
    for (int i = 0; i < 2; i++) {
        const size_t bytes = strlen(form->word[i]);
        if (bytes && (size_t)(end - p) > bytes && memcmp(p, form->word[i], bytes) == 0) {
            *side = i ? -1 : 1;
            return p + bytes;
        }
    }
    return NULL;
}

static inline const char *tr_form_read_part(const struct tr_form *form, const struct tr_form_part *part, const char *p, const char *end,
                             struct tr_form_match *m) {
    struct tr_span unread;
    int64_t number;
    switch (part->what) {
    case 'S': return tr_form_read_text(p, end, part[1].text[0], &m->symbol);
    case '_': return tr_form_read_text(p, end, part[1].text[0], &unread);
    case 'p': return tr_form_read_span(p, tr_plain_scalar(p, end), &m->price);
    case 'q': return tr_form_read_span(p, tr_plain_scalar(p, end), &m->qty);
    case 't': return tr_form_read_span(p, tr_plain_scalar(p, end), &m->time);
    case 'b': return tr_form_read_span(p, tr_plain_rows(p, end), &m->bids);
    case 'a': return tr_form_read_span(p, tr_plain_rows(p, end), &m->asks);
    case 'r': return tr_form_read_span(p, tr_plain_rows(p, end), &m->bids);
    case 'x': return tr_form_read_span(p, tr_plain_rows(p, end), &m->rows);
    case 's': return tr_form_read_side(form, p, end, &m->side);
    case 'm': return tr_form_read_maker(p, end, &m->side);
    case 'i': return tr_form_read_whole(p, end, &m->id);
    case 'c': return tr_form_read_whole(p, end, &m->checksum);
    case 'd': return tr_form_read_whole(p, end, &m->depth);
    case 'f': return tr_form_read_whole(p, end, &m->first);
    case 'l': return tr_form_read_whole(p, end, &m->last);
    case 'v': return tr_form_read_whole(p, end, &m->previous);
    default: return tr_form_read_whole(p, end, &number);
    }
}

#endif
