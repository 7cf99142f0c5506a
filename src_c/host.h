/* For programs that host the core: memory as it likes it, and marks that need no lock. The core
 * itself allocates nothing. */
#ifndef FASTRNN_HOST_H
#define FASTRNN_HOST_H

#include "include/fastrnn.h"

#include <stdlib.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif

enum { FR_HUGE = 2 << 20 };

static inline size_t fr_allocation_alignment(size_t bytes) {
    return bytes >= FR_HUGE / 2 ? FR_HUGE : FR_ALIGNMENT;
}

/* Bytes that fr_allocate takes for `size` of them, whole pages; 0 if that is impossible. */
static inline size_t fr_allocation_size(size_t bytes) {
    const size_t alignment = fr_allocation_alignment(bytes);
    if (bytes > SIZE_MAX - alignment) return 0;
    return bytes ? (bytes + alignment - 1) / alignment * alignment : alignment;
}

/* Memory at a multiple of FR_ALIGNMENT, from 1 MiB on of 2 MiB and in huge pages where the system
 * has them: fewer conflicts in L2 and fewer page walks. NULL when there is none; free() releases.
 */
static inline void *fr_allocate(size_t bytes) {
    const size_t alignment = fr_allocation_alignment(bytes);
    void *memory = NULL;
    bytes = fr_allocation_size(bytes);
    if (bytes == 0) return NULL;
    if (posix_memalign(&memory, alignment, bytes)) return NULL;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == FR_HUGE) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
    return memory;
}

/* Sets a mark; returns 0 if it was set already. */
static inline int fr_enter(int *mark) {
    return __atomic_exchange_n(mark, 1, __ATOMIC_ACQUIRE) == 0;
}
static inline void fr_leave(int *mark) { __atomic_store_n(mark, 0, __ATOMIC_RELEASE); }

/* A spare block of memory that one call at a time may borrow. */
static inline void *fr_swap(void **spare, void *memory) {
    return __atomic_exchange_n(spare, memory, __ATOMIC_ACQ_REL);
}

#endif
