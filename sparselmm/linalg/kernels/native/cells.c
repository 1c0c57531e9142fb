/* Blocks of Z'WZ from rows with level codes, and the order of cells by levels. */
#include "native.h"

#include <stdlib.h>
#include <string.h>

#define CODE int32_t
#define NAME(name) JOIN(name, 32)
#include "codes.inc"
#undef NAME
#define PLACE int32_t
#define NAME(name) JOIN(name, 32by32)
#include "cells.inc"
#undef NAME
#undef PLACE
#define PLACE int64_t
#define NAME(name) JOIN(name, 32by64)
#include "cells.inc"
#undef NAME
#undef PLACE
#undef CODE
#define CODE int64_t
#define NAME(name) JOIN(name, 64)
#include "codes.inc"
#undef NAME
#define PLACE int32_t
#define NAME(name) JOIN(name, 64by32)
#include "cells.inc"
#undef NAME
#undef PLACE
#define PLACE int64_t
#define NAME(name) JOIN(name, 64by64)
#include "cells.inc"

#define BY_BOTH(code, place, name, ...)                                                                             \
    ((code).size == 4 ? ((place).size == 4 ? name##32by32(__VA_ARGS__) : name##32by64(__VA_ARGS__))                  \
                      : ((place).size == 4 ? name##64by32(__VA_ARGS__) : name##64by64(__VA_ARGS__)))

static const char MEMORY[] = "no memory for the places of the levels";
static const char CODES[] = "the codes differ in type or length";

/* Copy of where levels start, to be moved on as rows are placed. */
static int64_t *moving(const Arg *starts) {
    int64_t *next = malloc((size_t)starts->n * sizeof(int64_t));
    if (next) memcpy(next, starts->data, (size_t)starts->n * sizeof(int64_t));
    return next;
}

static int alike(const Arg *a, const Arg *b) { return a->size == b->size && a->n == b->n; }

const char *level_starts(const Arg *a, double *result) {
    (void)result; /* codes, starts */
    memset(a[1].data, 0, (size_t)a[1].n * sizeof(int64_t));
    BY_INDEX(a[0], starts, a[0].n, a[0].data, a[1].data, a[1].n - 1);
    return NULL;
}

const char *place_distinct(const Arg *a, double *result) {
    /* a, b, a_starts, b_starts, by_b, cols */
    if (!alike(a, a + 1) || !alike(a, a + 4) || !alike(a, a + 5)) return CODES;
    int64_t *a_next = moving(a + 2), *b_next = moving(a + 3);
    const char *error = a_next && b_next ? NULL : MEMORY;
    if (!error)
        *result = BY_INDEX(a[0], distinct, a[0].n, a[0].data, a[1].data, a[2].data, a_next, a[3].data, b_next, a[3].n - 1,
                           a[4].data, a[5].data);
    free(a_next);
    free(b_next);
    return error;
}

const char *sort_by_pair(const Arg *a, double *result) {
    (void)result; /* a, b, a_starts, b_starts, by_b, order */
    if (!alike(a, a + 1) || !alike(a + 4, a + 5) || a[0].n != a[4].n) return CODES;
    int64_t *a_next = moving(a + 2), *b_next = moving(a + 3);
    const char *error = a_next && b_next ? NULL : MEMORY;
    if (!error) BY_BOTH(a[0], a[4], sort, a[0].n, a[0].data, a[1].data, a_next, b_next, a[4].data, a[5].data);
    free(a_next);
    free(b_next);
    return error;
}

const char *count_cells(const Arg *a, double *result) {
    (void)result; /* order, b, a_starts, counts */
    if (a[3].n != a[2].n - 1 || a[0].n != a[1].n) return CODES;
    BY_BOTH(a[1], a[0], count, a[0].data, a[1].data, a[2].data, a[3].n, a[3].data);
    return NULL;
}

const char *fill_cells(const Arg *a, double *result) {
    (void)result; /* order, b, a_starts, Za, step_a, Zb, step_b, w, step_w, cols, values */
    if (a[1].size != a[9].size || a[10].n != a[9].n * a[3].shape[1] * a[5].shape[1]) return CODES;
    BY_BOTH(a[1], a[0], fill, a[0].data, a[1].data, a[2].data, a[2].n - 1, a[3].data, a[3].shape[1], a[4].n, a[5].data,
            a[5].shape[1], a[6].n, a[7].data, a[8].n, a[9].data, a[10].data);
    return NULL;
}

const char *add_level_products(const Arg *a, double *result) {
    (void)result; /* codes, Z, step, right, step_right, w, step_w, out */
    BY_INDEX(a[0], add, a[0].n, a[0].data, a[1].data, a[1].shape[1], a[2].n, a[3].data, a[3].shape[1], a[4].n, a[5].data,
             a[6].n, a[7].data);
    return NULL;
}

const char *join_components(const Arg *a, double *result) {
    (void)result; /* rows, cols, first_row, first_col, parent */
    if (!alike(a, a + 1)) return CODES;
    BY_INDEX(a[0], join, a[0].n, a[0].data, a[1].data, a[2].n, a[3].n, a[4].data);
    return NULL;
}

const char *count_tile_cells(const Arg *a, double *result) {
    (void)result; /* outs, ins, tile, m_out, ptr */
    if (!alike(a, a + 1)) return CODES;
    BY_INDEX(a[0], tile_counts, a[0].n, a[0].data, a[1].data, a[2].n, a[3].n, a[4].data, a[4].n);
    return NULL;
}

const char *place_tile_cells(const Arg *a, double *result) {
    (void)result; /* outs, ins, tile, m_out, ptr, idx */
    if (!alike(a, a + 1) || a[5].n != a[0].n || (a[5].size != 2 && a[5].size != 4)) return CODES;
    int64_t *next = moving(a + 4);
    if (next == NULL) return MEMORY;
    BY_INDEX(a[0], tile_places, a[0].n, a[0].data, a[1].data, a[2].n, a[3].n, next, a[5].data, a[5].size == 2);
    free(next);
    return NULL;
}

const char *place_tile_values(const Arg *a, double *result) {
    (void)result; /* outs, ins, tile, m_out, ptr, values, placed */
    if (!alike(a, a + 1) || a[5].n != a[6].n || a[5].size != a[6].size || a[5].shape[0] != a[0].n) return CODES;
    int64_t *next = moving(a + 4);
    if (next == NULL) return MEMORY;
    size_t bytes = (size_t)(a[5].shape[1] * a[5].shape[2]) * (size_t)a[5].size;
    BY_INDEX(a[0], tile_values, a[0].n, a[0].data, a[1].data, a[2].n, a[3].n, next, a[5].data, a[6].data, bytes);
    free(next);
    return NULL;
}
