/* Decoding over many steps: step, choose, go on, until a choice needs a decision that is not made
 * here. One call for many steps because whatever else runs between two of them finds the caches
 * full of weights. */
#include "../include/fastrnn_decode.h"

/* ---- sampling ---------------------------------------------------------------------------- */

/* A row that was skipped has no token. */
static int goes_on(const fr_draws *d, const int64_t *tokens, int64_t rows) {
    for (int64_t n = 0; n < rows; n++) {
        if (d->positions[n] < 0 || tokens[n] < 0 || d->ends[tokens[n]]) return 0;
    }
    return 1;
}

int64_t fr_draw_steps(const fr_draws *d, int64_t steps, void *workspace, int32_t threads) {
    const int64_t rows = fr_state_rows(d->network->state);
    fr_sampling call = *d->sampling;
    call.rows = rows;
    for (int64_t t = 0; t < steps; t++) {
        fr_network_step(d->network, NULL, d->tokens + t * d->capacity, d->raw);
        call.tokens = d->tokens + (t + 1) * d->capacity;
        call.logprobs = d->logprobs + (t + 1) * d->capacity;
        fr_sample(&call, workspace, threads);
        if (!goes_on(d, call.tokens, rows)) return t;
        for (int64_t n = 0; n < rows; n++) d->positions[n]++;
    }
    return steps;
}

/* ---- beam search ------------------------------------------------------------------------- */

/* The next rows are the first `beams` candidates of every group, if no choice is left to make: all
 * of them are there, and none may end its text. */
static int take_candidates(const fr_search *s, int64_t *tokens, int64_t *parents, double *scores,
                           float *logprobs) {
    const fr_choice *c = s->choice;
    int64_t n = 0;
    for (int64_t g = 0; g < c->groups; g++) {
        for (int64_t i = g * c->k; i < g * c->k + s->beams; i++, n++) {
            if (c->best_rows[i] < 0 || s->ends[c->tokens[i]]) return 0;
            tokens[n] = c->tokens[i], parents[n] = c->best_rows[i], scores[n] = c->best[i];
            logprobs[n] = c->logprobs[c->best_rows[i] * c->classes + c->tokens[i]];
        }
    }
    return 1;
}

static int is_same_order(const int64_t *indices, int64_t count, int64_t rows) {
    int64_t n = 0;
    while (n < count && indices[n] == n) n++;
    return n == count && count == rows;
}

int64_t fr_search_steps(fr_search *s, int64_t steps, int32_t threads) {
    fr_choice *c = s->choice;
    s->nan_row = -1;
    for (int64_t t = 0; t < steps; t++) {
        const int64_t at = t * s->capacity, next = at + s->capacity;
        const int64_t rows = fr_state_rows(s->network->state), each = rows / c->groups,
                      taken = c->groups * s->beams;
        fr_network_step(s->network, NULL, s->tokens + at, s->logits);
        const int64_t nan_row = fr_normalize(rows, c->classes, s->logits, threads);
        if (nan_row < rows) {
            s->nan_row = nan_row;
            return t;
        }
        for (int64_t g = 0; g < c->groups; g++) s->first[g] = g * each, s->last[g] = (g + 1) * each;
        c->scores = s->scores + at;
        fr_choose(c, threads);
        if (!take_candidates(s, s->tokens + next, s->parents + next, s->scores + next,
                             s->logprobs + next))
            return t;
        if (!is_same_order(s->parents + next, taken, rows)) {
            fr_network_reorder(s->network, s->parents + next, taken);
        }
    }
    return steps;
}
