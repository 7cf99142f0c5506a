/* Decoding: from logits to tokens. One token is drawn per row, or the best continuations of several
 * rows are chosen; ties always go to the lower row, then to the lower token. */
#include "decode.h"

#include "../kernels.h"
#include "../time/team.h"

#include <string.h>

enum { LEAST_WORK = 16384 }; /* logits below which a second thread does not pay */

/* ---- random numbers ---------------------------------------------------------------------- */

static uint64_t mix(uint64_t z) { /* splitmix64, Steele et al. 2014 */
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

double fr_uniform(int64_t key, int64_t position) {
    const uint64_t step = ((uint64_t)position + 1) * 0x9e3779b97f4a7c15u;
    return (double)(mix(mix((uint64_t)key) + step) >> 11) * 0x1p-53;
}

/* ---- sampling ---------------------------------------------------------------------------- */

/* Memory of one thread, V each. */
struct scratch {
    float *weights, *keys;
    int32_t *heap;
};

static const double EVERYTHING = 2.0; /* a share that no sum reaches */

static size_t scratch_floats(int64_t classes) {
    return (size_t)(classes + FR_GROUP - 1) / FR_GROUP * FR_GROUP;
}

size_t fr_draw_size(int64_t classes, int32_t threads) {
    if (classes < 1 || classes > INT32_MAX || threads < 1) return 0;
    return 3 * sizeof(float) * scratch_floats(classes) *
           (size_t)(threads < FR_MAX_THREADS ? threads : FR_MAX_THREADS);
}

/* 1 if token a comes before token b: the larger key, then the lower id. */
static int comes_before(const float *key, int32_t a, int32_t b) {
    return key[a] > key[b] || (key[a] == key[b] && a < b);
}

static void sink(const float *key, int32_t *heap, int64_t n, int64_t at) {
    const int32_t token = heap[at];
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && comes_before(key, heap[child + 1], heap[child])) child++;
        if (!comes_before(key, heap[child], token)) break;
        heap[at] = heap[child];
    }
    heap[at] = token;
}

enum { BINS = 256, BINS_PER_UNIT = 8 };

/* Keys that tokens are ordered by, and the unit of their logarithm: a bin of keys is an eighth of
 * it wide. */
struct order {
    const float *key;
    float max, unit;
};

/* bins[i]: rough place of token i in the order; BINS if it has no weight. Bins are indices, so
 * that no key may lead out of them: neither a NaN (0 * infinity, where the unit is next to 0 or
 * infinite) nor one above max, which another thread has written. */
static void find_bins(const struct order *o, const float *weights, int64_t V, int32_t *bins) {
    const float scale = BINS_PER_UNIT / o->unit, last = BINS - 1;
    for (int64_t i = 0; i < V; i++) {
        const float below = (o->max - o->key[i]) * scale, bin = below > 0.0f ? below : 0.0f;
        bins[i] = weights[i] > 0.0f ? (int32_t)(bin < last ? bin : last) : BINS;
    }
}

/* The tokens of one bin, in place of the bins; returns how many. */
static int64_t take_bin(int32_t *bins, int64_t V, int32_t bin) {
    int64_t n = 0;
    for (int64_t i = 0; i < V; i++) {
        const int found = bins[i] == bin;
        bins[n] = (int32_t)i;
        n += found;
    }
    return n;
}

/* A share, even one of 0, is not reached without a token. */
static int reaches(double kept, double wanted) { return kept > 0.0 && kept >= wanted; }

/* Keeps the weights of the tokens that come first: `most` of them, or fewer that together reach
 * `share` of the sum, but at least one. The others become 0. Only the bin that the border runs
 * through is sorted. */
static void keep_first(const struct order *o, float *weights, int64_t V, int64_t most, double share,
                       int32_t *heap) {
    double sums[BINS + 1] = {0.0}, sum = 0.0, kept = 0.0;
    int64_t counts[BINS + 1] = {0};
    int border = 0;
    find_bins(o, weights, V, heap);
    for (int64_t i = 0; i < V; i++) sums[heap[i]] += (double)weights[i], counts[heap[i]]++;
    for (int bin = 0; bin < BINS; bin++) sum += sums[bin];
    for (; border < BINS - 1 && counts[border] < most && !reaches(kept + sums[border], share * sum);
         border++) {
        kept += sums[border];
        most -= counts[border];
    }
    for (int64_t i = 0; i < V; i++) weights[i] = heap[i] <= border ? weights[i] : 0.0f;
    int64_t n = take_bin(heap, V, border);
    for (int64_t at = n / 2; at-- > 0;) sink(o->key, heap, n, at);
    for (; n > 0 && most > 0 && !reaches(kept, share * sum); most--) {
        kept += (double)weights[heap[0]];
        heap[0] = heap[--n];
        if (n) sink(o->key, heap, n, 0);
    }
    for (int64_t i = 0; i < n; i++) weights[heap[i]] = 0.0f;
}

/* -ln p = ln(sum w) - d with d = ln w, so that | -ln p - entropy | = | mean d - d |. */
static void keep_typical(const struct fr_draw *s, const float *x, float max,
                         struct scratch *scratch) {
    double sum = 0.0, mean = 0.0;
    for (int64_t i = 0; i < s->classes; i++) {
        if (!(scratch->weights[i] > 0.0f)) continue;
        scratch->keys[i] = (x[i] - max) / s->how.temperature;
        sum += (double)scratch->weights[i];
        mean += (double)scratch->weights[i] * (double)scratch->keys[i];
    }
    mean /= sum;
    for (int64_t i = 0; i < s->classes; i++) {
        if (!(scratch->weights[i] > 0.0f)) continue;
        const double d = mean - (double)scratch->keys[i];
        scratch->keys[i] = (float)(d < 0.0 ? d : -d);
    }
    const struct order order = {scratch->keys, 0.0f, 1.0f};
    keep_first(&order, scratch->weights, s->classes, s->classes, s->how.typical_p, scratch->heap);
}

static void filter(const struct fr_draw *s, const float *x, float max, struct scratch *scratch) {
    const int64_t V = s->classes;
    float *weights = scratch->weights;
    const struct order order = {x, max, s->how.temperature};
    if (s->how.top_k > 0 && s->how.top_k < V)
        keep_first(&order, weights, V, s->how.top_k, EVERYTHING, scratch->heap);
    if (s->how.top_p < 1.0) keep_first(&order, weights, V, V, s->how.top_p, scratch->heap);
    for (int64_t i = 0; s->how.min_p > 0.0f && i < V; i++)
        weights[i] = weights[i] >= s->how.min_p ? weights[i] : 0.0f;
    if (s->how.typical_p < 1.0) keep_typical(s, x, max, scratch);
}

static int64_t draw(const float *weights, int64_t V, double u) {
    double sum = 0.0, below = 0.0;
    for (int64_t i = 0; i < V; i++) sum += (double)weights[i];
    const double wanted = u * sum;
    int64_t last = 0;
    for (int64_t i = 0; i < V; i++) {
        if (!(weights[i] > 0.0f)) continue;
        below += (double)weights[i];
        last = i;
        if (below > wanted) break;
    }
    return last;
}

static int64_t sample_row(const struct fr_draw *s, const float *x, double u,
                          struct scratch *scratch) {
    const struct fr_kernels *kernels = fr_active_kernels();
    const int64_t V = s->classes;
    float max = x[0];
    int64_t first = 0; /* of the largest ones */
    for (int64_t i = 0; (i = kernels->next_above(x, i, V, max)) < V;) max = x[first = i];
    if (!(max > -__builtin_inff())) return -1;
    if (s->how.temperature == 0.0f) return first;
    if (s->how.temperature < __builtin_inff()) {
        kernels->weigh(x, scratch->weights, V, max, s->how.temperature);
    } else {
        for (int64_t i = 0; i < V; i++)
            scratch->weights[i] = x[i] > -__builtin_inff() ? 1.0f : 0.0f;
    }
    filter(s, x, max, scratch);
    return draw(scratch->weights, V, u);
}

struct sample_call {
    const struct fr_draw *draw;
    float *memory;
};

static void sample_share(void *context, int share, int shares) {
    const struct sample_call *call = context;
    const struct fr_draw *s = call->draw;
    const size_t floats = scratch_floats(s->classes);
    float *memory = call->memory + (size_t)share * 3 * floats;
    struct scratch scratch = {memory, memory + floats, (int32_t *)(memory + 2 * floats)};
    for (int64_t row = s->rows * share / shares; row < s->rows * (share + 1) / shares; row++) {
        if (s->positions[row] < 0) continue;
        const float *raw = s->raw + row * s->classes;
        float max, log_sum;
        fr_active_kernels()->normalizer(raw, s->classes, &max, &log_sum);
        s->tokens[row] = -2;
        if (log_sum != log_sum) continue;
        const double u = fr_uniform(s->keys[row], s->positions[row]);
        const int64_t token = sample_row(s, s->logits + row * s->classes, u, &scratch);
        s->tokens[row] = token;
        s->logprobs[row] = token < 0 ? 0.0f : (raw[token] - max) - log_sum;
    }
}

void fr_draw_rows(const struct fr_draw *draw, void *workspace, int32_t threads) {
    struct sample_call call = {draw, workspace};
    fr_divide(draw->rows * draw->classes >= LEAST_WORK, threads, sample_share, &call);
}

/* ---- beams ------------------------------------------------------------------------------- */

/* The best of one group: first a heap whose root is the worst, then sorted. */
struct best {
    double *score;
    int64_t *row, *token;
};

static int is_worse(const struct best *b, int64_t i, int64_t j) {
    if (b->score[i] != b->score[j]) return b->score[i] < b->score[j];
    if (b->row[i] != b->row[j]) return b->row[i] > b->row[j];
    return b->token[i] > b->token[j];
}

static void swap(const struct best *b, int64_t i, int64_t j) {
    const double score = b->score[i];
    const int64_t row = b->row[i], token = b->token[i];
    b->score[i] = b->score[j], b->row[i] = b->row[j], b->token[i] = b->token[j];
    b->score[j] = score, b->row[j] = row, b->token[j] = token;
}

static void settle(const struct best *b, int64_t n, int64_t at) {
    for (int64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && is_worse(b, child + 1, child)) child++;
        if (!is_worse(b, child, at)) return;
        swap(b, child, at);
    }
}

static void rise(const struct best *b, int64_t at) {
    for (; at > 0 && is_worse(b, at, (at - 1) / 2); at = (at - 1) / 2) swap(b, at, (at - 1) / 2);
}

/* A float below which logprobs cannot enter: the sum's rounding is far finer than the margin. */
static float entry_bound(double worst, double parent) {
    const double bound = worst - parent;
    return (float)(bound - (bound < 0.0 ? -bound : bound) * 1e-6 - 1e-30);
}

/* The last one that a row may offer: what comes after it in falling order of values is left out. */
struct branch {
    float value;
    int64_t token;
};

static int is_left_out(const struct branch *last, float value, int64_t token) {
    return value < last->value || (value == last->value && token > last->token);
}

/* Rounds find one after the other; branches are few, as more than k of them leave nothing out. */
static struct branch last_branch(const struct fr_choice *c, const float *x) {
    const float all = -__builtin_inff();
    if (c->branches < 1 || c->branches >= c->k) return (struct branch){all, c->classes};
    struct branch last = {__builtin_inff(), c->classes};
    for (int64_t found = 0; found < c->branches; found++) {
        struct branch next = {all, c->classes};
        for (int64_t i = 0; i < c->classes; i++) {
            if (x[i] > next.value && is_left_out(&last, x[i], i)) next = (struct branch){x[i], i};
        }
        last = next;
    }
    return last;
}

/* Rows and tokens come in rising order, so that an equal sum never displaces what is there. */
static int64_t enter_row(const struct fr_choice *c, const struct best *b, int64_t n, int64_t row) {
    const struct fr_kernels *kernels = fr_active_kernels();
    const float *x = c->logprobs + row * c->classes;
    const double parent = c->scores[row];
    const struct branch last = last_branch(c, x);
    float bound = n < c->k ? -__builtin_inff() : entry_bound(b->score[0], parent);
    for (int64_t i = 0; (i = kernels->next_above(x, i, c->classes, bound)) < c->classes; i++) {
        const double score = parent + (double)x[i];
        if (is_left_out(&last, x[i], i) || (n == c->k && !(score > b->score[0]))) continue;
        const int64_t at = n < c->k ? n++ : 0;
        b->score[at] = score, b->row[at] = row, b->token[at] = i;
        if (at) rise(b, at);
        else settle(b, n, 0);
        if (n == c->k) bound = entry_bound(b->score[0], parent);
    }
    return n;
}

static void choose_share(void *context, int share, int shares) {
    const struct fr_choice *c = context;
    for (int64_t g = c->groups * share / shares; g < c->groups * (share + 1) / shares; g++) {
        const struct best b = {c->best + g * c->k, c->best_rows + g * c->k, c->tokens + g * c->k};
        int64_t n = 0;
        for (int64_t row = c->first[g]; row < c->last[g]; row++) n = enter_row(c, &b, n, row);
        for (int64_t i = n; i < c->k; i++) b.row[i] = -1;
        while (n-- > 1) { /* the worst goes behind the others */
            swap(&b, 0, n);
            settle(&b, n, 0);
        }
    }
}

void fr_choose(const struct fr_choice *choice, int32_t threads) {
    const int64_t work = choice->groups > 1 ? choice->groups * choice->classes : 0;
    fr_divide(work >= LEAST_WORK, threads, choose_share, (void *)choice);
}

int64_t fr_normalize(int64_t rows, int64_t classes, float *x, int32_t threads) {
    int64_t row = 0;
    fr_log_softmax(rows, classes, x, classes, x, classes, threads);
    while (row < rows && x[row * classes] == x[row * classes])
        row++; /* a NaN spreads to all of them */
    return row;
}

/* ---- constraints ------------------------------------------------------------------------- */

void fr_constrain(const fr_grammar *g) {
    for (int64_t row = 0; row < g->rows; row++) {
        const int64_t state = g->states[row];
        float *x = g->logits + row * g->classes;
        int64_t next = 0; /* the first token that is not decided yet */
        if (state < 0) continue;
        for (int64_t e = g->offsets[state]; e < g->offsets[state + 1]; e++) {
            if (g->needed[e] > g->remaining[row]) continue;
            for (; next < g->tokens[e]; next++) x[next] = -__builtin_inff();
            next++;
        }
        for (; next < g->classes; next++) x[next] = -__builtin_inff();
    }
}

int64_t fr_first_outside(const int64_t *values, int64_t n, int64_t limit) {
    int64_t i = 0;
    while (i < n && 0 <= values[i] && values[i] < limit) i++;
    return i;
}
