/* Panels: rows side by side, as the products of weight gradients read them (struct fr_outer). */
#ifndef FASTRNN_PANEL_H
#define FASTRNN_PANEL_H

#include "../kernels.h"

#include <string.h>

/* Strips come in pairs, for kernels that take two at a time. */
static inline size_t fr_panel_floats(int32_t width) {
    const int32_t strips = (width + FR_STRIP - 1) / FR_STRIP;
    return (size_t)((strips + 1) / 2 * 2) * FR_PANEL_ROWS * FR_STRIP;
}

static inline void fr_fill_panel(float *panel, const float *const *rows, int32_t count,
                                 int32_t width) {
    for (int32_t i = 0; i < width; i += FR_STRIP, panel += FR_PANEL_ROWS * FR_STRIP) {
        const int32_t part = width - i < FR_STRIP ? width - i : FR_STRIP;
        for (int32_t k = 0; k < count; k++) {
            float *to = panel + k * FR_STRIP;
            if (part == FR_STRIP) {
                memcpy(to, rows[k] + i, FR_STRIP * sizeof *to);
                continue;
            }
            memset(to, 0, FR_STRIP * sizeof *to);
            memcpy(to, rows[k] + i, (size_t)part * sizeof *to);
        }
    }
}

#endif
