/* Decoding over one step or many: choose, feed what was chosen, choose again, until a choice needs
 * a decision that is not made here. One call for many steps because whatever else runs between two
 * of them finds the caches full of weights. */
#include "decode.h"

#include "../time/model.h"

#include <string.h>

/* ---- sampling ---------------------------------------------------------------------------- */

struct fr_sampler {
    fr_sampler_plan plan;
    fr_sampled arrays;
    uint8_t *ends;
    int64_t *tokens;
    float *logprobs;
    void *workspace;
};

static fr_sampler *lay_out_sampler(const fr_sampler_plan *plan, struct fr_arena *arena) {
    const size_t N = (size_t)plan->capacity, logits = fr_times(N, (size_t)plan->classes);
    const size_t record = fr_times((size_t)plan->steps, N);
    fr_sampler *s = fr_take(arena, 1, sizeof *s), out = {.plan = *plan};
    out.arrays.raw = fr_take(arena, logits, sizeof(float));
    out.arrays.logits =
        plan->has_processors ? fr_take(arena, logits, sizeof(float)) : out.arrays.raw;
    out.arrays.keys = fr_take(arena, N, sizeof(int64_t));
    out.arrays.positions = fr_take(arena, N, sizeof(int64_t));
    out.arrays.tokens = out.tokens = fr_take(arena, record, sizeof *out.tokens);
    out.arrays.logprobs = out.logprobs = fr_take(arena, record, sizeof *out.logprobs);
    out.ends = fr_take(arena, (size_t)plan->classes, sizeof *out.ends);
    out.workspace = fr_take(arena, fr_draw_size(plan->classes, plan->threads), 1);
    if (s) *s = out;
    return s;
}

size_t fr_sampler_size(const fr_sampler_plan *plan) {
    if (fr_draw_size(plan->classes, plan->threads) == 0 || plan->capacity < 0 || plan->steps < 1)
        return 0;
    struct fr_arena arena = {NULL, 0};
    lay_out_sampler(plan, &arena);
    return fr_used(&arena);
}

fr_sampler *fr_sampler_create(const fr_sampler_plan *plan, void *memory) {
    const size_t size = fr_sampler_size(plan);
    if (size == 0) return NULL;
    struct fr_arena arena = {memory, 0};
    memset(memory, 0, size);
    fr_sampler *s = lay_out_sampler(plan, &arena);
    memcpy(s->ends, plan->ends, (size_t)plan->classes);
    return s;
}

fr_sampled fr_sampler_arrays(fr_sampler *sampler) { return sampler->arrays; }

/* A token for each row, into row `at` of the record. */
static void draw(fr_sampler *s, int64_t rows, int64_t at) {
    const struct fr_draw call = {
        .rows = rows,
        .classes = s->plan.classes,
        .logits = s->arrays.logits,
        .raw = s->arrays.raw,
        .keys = s->arrays.keys,
        .positions = s->arrays.positions,
        .tokens = s->tokens + at * s->plan.capacity,
        .logprobs = s->logprobs + at * s->plan.capacity,
        .how = s->plan.how,
    };
    fr_draw_rows(&call, s->workspace, s->plan.threads);
}

/* 1 if every row has a token that ends nothing; a row that was skipped has none. */
static int goes_on(const fr_sampler *s, int64_t at, int64_t rows) {
    const int64_t *tokens = s->tokens + at * s->plan.capacity;
    for (int64_t n = 0; n < rows; n++) {
        if (s->arrays.positions[n] < 0 || tokens[n] < 0 || s->ends[tokens[n]]) return 0;
    }
    return 1;
}

int64_t fr_sampler_run(fr_sampler *s, const fr_network *network, fr_slots *slots, int64_t rows,
                       int64_t steps) {
    float *const outputs[] = {s->arrays.raw};
    for (int64_t t = 0;; t++) {
        const void *const inputs[] = {s->tokens + t * s->plan.capacity};
        draw(s, rows, t);
        if (t + 1 == steps || !goes_on(s, t, rows)) return t + 1;
        fr_network_step(network, slots, rows, NULL, inputs, outputs);
        for (int64_t n = 0; n < rows; n++) s->arrays.positions[n]++;
    }
}

/* ---- beam search ------------------------------------------------------------------------- */

struct fr_search {
    fr_search_plan plan;
    fr_searched arrays;
    struct fr_choice choice; /* of the last step */
    uint8_t *ends;
    int64_t *first, *last, *tokens, *parents;
    float *logprobs;
};

static fr_search *lay_out_search(const fr_search_plan *plan, struct fr_arena *arena) {
    const size_t N = (size_t)plan->capacity, G = (size_t)plan->groups;
    const size_t record = fr_times((size_t)plan->steps, N), best = fr_times(G, (size_t)plan->k);
    fr_search *s = fr_take(arena, 1, sizeof *s), out = {.plan = *plan};
    struct fr_choice *c = &out.choice;
    fr_searched *a = &out.arrays;
    c->classes = plan->classes, c->k = plan->k, c->branches = plan->branches;
    c->logprobs = a->logits = fr_take(arena, fr_times(N, (size_t)plan->classes), sizeof(float));
    c->scores = a->scores = fr_take(arena, record, sizeof(double));
    a->best = c->best = fr_take(arena, best, sizeof(double));
    a->rows = c->best_rows = fr_take(arena, best, sizeof(int64_t));
    a->candidates = c->tokens = fr_take(arena, best, sizeof(int64_t));
    c->first = out.first = fr_take(arena, G, sizeof(int64_t));
    c->last = out.last = fr_take(arena, G, sizeof(int64_t));
    a->tokens = out.tokens = fr_take(arena, record, sizeof(int64_t));
    a->parents = out.parents = fr_take(arena, record, sizeof(int64_t));
    a->logprobs = out.logprobs = fr_take(arena, record, sizeof(float));
    out.ends = fr_take(arena, (size_t)plan->classes, sizeof *out.ends);
    if (s) *s = out;
    return s;
}

size_t fr_search_size(const fr_search_plan *plan) {
    if (plan->classes < 1 || plan->classes > INT32_MAX || plan->capacity < 1 || plan->steps < 1 ||
        plan->groups < 1 || plan->beams < 1 || plan->k < plan->beams || plan->branches < 0)
        return 0;
    struct fr_arena arena = {NULL, 0};
    lay_out_search(plan, &arena);
    return fr_used(&arena);
}

fr_search *fr_search_create(const fr_search_plan *plan, void *memory) {
    const size_t size = fr_search_size(plan);
    if (size == 0) return NULL;
    struct fr_arena arena = {memory, 0};
    memset(memory, 0, size);
    fr_search *s = lay_out_search(plan, &arena);
    memcpy(s->ends, plan->ends, (size_t)plan->classes);
    return s;
}

fr_searched fr_search_arrays(fr_search *search) { return search->arrays; }

int64_t fr_search_normalize(fr_search *s, int64_t rows) {
    return fr_normalize(rows, s->plan.classes, s->arrays.logits, s->plan.threads);
}

/* The next rows are the first `beams` candidates of every group, if no choice is left to make: all
 * of them are there, and none may end its text. Into record row `at`. */
static int take_candidates(fr_search *s, int64_t at) {
    const struct fr_choice *c = &s->choice;
    int64_t n = at * s->plan.capacity;
    for (int64_t g = 0; g < c->groups; g++) {
        for (int64_t i = g * c->k; i < g * c->k + s->plan.beams; i++, n++) {
            if (c->best_rows[i] < 0 || s->ends[c->tokens[i]]) return 0;
            s->tokens[n] = c->tokens[i], s->parents[n] = c->best_rows[i];
            s->arrays.scores[n] = c->best[i];
            s->logprobs[n] = c->logprobs[c->best_rows[i] * c->classes + c->tokens[i]];
        }
    }
    return 1;
}

int64_t fr_search_run(fr_search *s, const fr_network *network, fr_slots *slots, int64_t groups,
                      const int64_t *first, const int64_t *last, int64_t steps, int64_t *nan_row) {
    const int64_t N = s->plan.capacity, beams = s->plan.beams, taken = groups * beams;
    float *const outputs[] = {s->arrays.logits};
    *nan_row = -1, s->choice.groups = groups;
    memcpy(s->first, first, (size_t)groups * sizeof *first);
    memcpy(s->last, last, (size_t)groups * sizeof *last);
    for (int64_t t = 0;; t++) {
        s->choice.scores = s->arrays.scores + t * N;
        fr_choose(&s->choice, s->plan.threads);
        if (t + 1 == steps || !take_candidates(s, t + 1)) return t;
        const void *const inputs[] = {s->tokens + (t + 1) * N};
        fr_slots_reorder(slots, s->parents + (t + 1) * N, taken);
        fr_network_step(network, slots, taken, NULL, inputs, outputs);
        const int64_t nan = fr_search_normalize(s, taken);
        if (nan < taken) {
            *nan_row = nan;
            return t + 1;
        }
        for (int64_t g = 0; g < groups; g++) s->first[g] = g * beams, s->last[g] = (g + 1) * beams;
    }
}
