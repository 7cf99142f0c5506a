/* Sums that rows of gradients and inputs add to the weights of a linear map. */
#ifndef FASTRNN_OUTER_H
#define FASTRNN_OUTER_H

#include "../matrix/panel.h"

struct fr_outer_rows {
    int32_t rows, width;    /* of the panel: at most FR_PANEL_ROWS */
    const float *panel;     /* inputs */
    const float *const *dy; /* [rows] -> (outputs) */
    int32_t outputs;
    float *dweight; /* (outputs, width), added to; NULL: not wanted */
    float *dbias;   /* (outputs) likewise */
    float *ragged;  /* FR_PANEL_ROWS * FR_GROUP */
};

/* For the outputs [first, first + 16), as far as they exist, row after row. */
static inline void fr_add_outer_rows(const struct fr_outer_rows *p, int32_t first) {
    const int32_t outputs = p->outputs - first < FR_GROUP ? p->outputs - first : FR_GROUP;
    const float *a[FR_PANEL_ROWS];
    float *out[FR_GROUP];
    for (int32_t k = 0; k < p->rows; k++) {
        float *copy = p->ragged + k * FR_GROUP;
        a[k] = p->dy[k] + first;
        if (outputs == FR_GROUP) continue; /* else the kernels would read past the row */
        memset(copy, 0, FR_GROUP * sizeof *copy);
        memcpy(copy, a[k], (size_t)outputs * sizeof *copy);
        a[k] = copy;
    }
    for (int32_t r = 0; p->dweight && r < outputs; r++)
        out[r] = p->dweight + (size_t)(first + r) * (size_t)p->width;
    const struct fr_outer outer = {a, p->panel, out, p->rows, outputs, p->width};
    if (p->dweight && p->width) fr_active_kernels()->outer(&outer);
    const struct fr_columns columns = {a, NULL, p->dbias + first, p->rows, outputs};
    if (p->dbias) fr_active_kernels()->columns(&columns);
}

#endif
