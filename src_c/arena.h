/* Memory of the caller's, dealt out piece by piece. */
#ifndef FASTRNN_ARENA_H
#define FASTRNN_ARENA_H

#include "include/fastrnn.h"

/* Lays things out one after the other, each on a cache line. With base NULL it only counts: the
 * size of an object and its layout come from one piece of code. */
struct fr_arena {
    char *base;
    size_t used;
};
static inline void *fr_take(struct fr_arena *arena, size_t count, size_t size) {
    const size_t at = arena->used, most = SIZE_MAX - FR_ALIGNMENT;
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > most ||
        __builtin_add_overflow(at, (bytes + FR_ALIGNMENT - 1) / FR_ALIGNMENT * FR_ALIGNMENT,
                               &arena->used)) {
        arena->used = SIZE_MAX;
    }
    return arena->base ? arena->base + at : NULL;
}
/* A count of elements for fr_take; SIZE_MAX, which no size survives, if it overflows. */
static inline size_t fr_times(size_t a, size_t b) {
    size_t product;
    return __builtin_mul_overflow(a, b, &product) ? SIZE_MAX : product;
}
/* Result of a size function: 0 stands for more than there can be. */
static inline size_t fr_used(const struct fr_arena *arena) {
    return arena->used == SIZE_MAX ? 0 : arena->used;
}

#endif
