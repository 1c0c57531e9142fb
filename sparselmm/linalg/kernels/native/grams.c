/* Products of sparse matrices with themselves: the Schur complement, its forms, the audit, sums of squares. */
#include "native.h"

#include <stdlib.h>
#include <string.h>

#define INDEX int32_t
#define NAME(name) JOIN(name, 32)
#include "grams.inc"
#undef INDEX
#undef NAME
#define INDEX int64_t
#define NAME(name) JOIN(name, 64)
#include "grams.inc"

const char *weighted_gram_lower(const Arg *a, double *result) {
    (void)result; /* indptr, indices, left, right, panel_ptr, panel_rows, panel_first, width, d, out */
    BY_INDEX(a[1], gram, a[9].shape[0], a[0].data, a[1].data, a[2].data, a[3].data, a[4].n - 1, a[4].data, a[5].data,
             a[6].data, a[7].n, a[8].data, a[9].data);
    return NULL;
}

const char *two_weighted_grams_lower(const Arg *a, double *result) {
    (void)result; /* indptr, indices, data, panel_ptr, panel_rows, panel_first, width, d, e2, out, other */
    if (a[9].n != a[10].n) return "out and other differ in size";
    BY_INDEX(a[1], two_grams, a[9].shape[0], a[0].data, a[1].data, a[2].data, a[3].n - 1, a[3].data, a[4].data, a[5].data,
             a[6].n, a[7].data, a[8].data, a[9].data, a[10].data);
    return NULL;
}

const char *level_quadratic_forms(const Arg *a, double *result) {
    (void)result; /* indptr, indices, data, K, inner, out */
    if (a[5].n != (a[0].n - 1) * a[3].n) return "out has not one K by K block for each group of rows";
    BY_INDEX(a[1], forms, (a[0].n - 1) / a[3].n, a[0].data, a[1].data, a[2].data, a[3].n, a[4].data, a[4].stride[0],
             a[4].stride[1], a[5].data);
    return NULL;
}

const char *pattern_products(const Arg *a, double *result) {
    (void)result; /* ptr, columns, values, inner, out */
    if (a[2].n != a[4].n) return "values and out differ in size";
    BY_INDEX(a[1], products, a[0].n - 1, a[0].data, a[1].data, a[2].data, a[2].shape[1], a[3].data, a[3].shape[1], a[4].data);
    return NULL;
}

const char *subtract_products(const Arg *a, double *result) {
    (void)result; /* indptr, indices, data, column_ptr, rows, places, first, top, out */
    if (a[1].size != a[4].size) return "rows and columns are indices of different types";
    BY_INDEX(a[1], subtract, a[0].data, a[1].data, a[2].data, a[3].data, a[4].data, a[5].data, a[6].n, a[7].n, a[8].shape[0],
             a[8].shape[1], a[8].data);
    return NULL;
}

const char *squares_of_rows(const Arg *a, double *result) {
    /* back_ptr, back_idx, back_val, ptr, idx, val, r_ptr, r_idx, r_val, first, last */
    if (a[1].size != a[4].size || a[1].size != a[7].size) return "the matrices have indices of different types";
    int64_t q = a[0].n - 1;
    double *row = calloc((size_t)(q > 0 ? q : 1), sizeof(double));
    if (row == NULL) return "no memory for a row";
    *result = BY_INDEX(a[1], squares, q, a[0].data, a[1].data, a[2].data, a[3].data, a[4].data, a[5].data, a[6].data, a[7].data,
                       a[8].data, a[9].n, a[10].n, row);
    free(row);
    return NULL;
}
