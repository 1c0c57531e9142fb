/* Sparse factors: the inverse in their pattern, and how many entries they will have. */
#include "native.h"

#include <stdlib.h>

const char *takahashi(const Arg *arg, double *result) {
    (void)result; /* indptr, indices, L, cut, dense, out */
    const int64_t *ptr = arg[0].data, *row = arg[1].data, cut = arg[3].n;
    const double *L = arg[2].data, *dense = arg[4].data;
    double *out = arg[5].data;
    int64_t down = arg[4].stride[0], along = arg[4].stride[1], longest = 1;
    for (int64_t j = 0; j < cut; j++)
        if (ptr[j + 1] - ptr[j] > longest) longest = ptr[j + 1] - ptr[j];
    double *scaled = malloc(2 * (size_t)longest * sizeof(double)), *sums = scaled + longest;
    if (scaled == NULL) return "no memory for a column";
    for (int64_t j = cut - 1; j >= 0; j--) {
        int64_t first = ptr[j] + 1, width = ptr[j + 1] - first;
        double pivot = L[first - 1], total = 1.0 / (pivot * pivot);
        for (int64_t a = 0; a < width; a++) {
            scaled[a] = L[first + a] / pivot;
            sums[a] = 0.0;
        }
        for (int64_t b = 0; b < width; b++) {
            int64_t c = row[first + b], p = c < cut ? ptr[c] : 0;
            const double *column = c < cut ? NULL : dense + (c - cut) * along;
            for (int64_t a = b; a < width; a++) {
                double value;
                if (column) {
                    value = column[(row[first + a] - cut) * down];
                } else {
                    while (row[p] < row[first + a]) p++;
                    value = out[p];
                }
                sums[a] += value * scaled[b];
                if (a > b) sums[b] += value * scaled[a];
            }
        }
        for (int64_t a = 0; a < width; a++) {
            out[first + a] = -sums[a];
            total += sums[a] * scaled[a];
        }
        out[first - 1] = total;
    }
    free(scaled);
    return NULL;
}

/* Row k of L is the union of the paths from its nonzeros to k in the elimination tree, which is grown on the way
 * (Davis 2006, Direct Methods for Sparse Linear Systems, section 4.1). */
const char *column_counts(const Arg *arg, double *result) {
    (void)result; /* indptr, indices, counts */
    const int64_t *ptr = arg[0].data, *col = arg[1].data, q = arg[2].n;
    int64_t *counts = arg[2].data, *parent = malloc(2 * (size_t)(q > 0 ? q : 1) * sizeof(int64_t)), *mark = parent + q;
    if (arg[0].n != q + 1) return free(parent), "counts has not one entry for each row";
    if (parent == NULL) return "no memory for the elimination tree";
    for (int64_t k = 0; k < q; k++) {
        parent[k] = mark[k] = -1;
        counts[k] = 1;
    }
    for (int64_t k = 0; k < q; k++) {
        mark[k] = k;
        for (int64_t e = ptr[k]; e < ptr[k + 1]; e++)
            for (int64_t i = col[e]; i < k && mark[i] != k; i = parent[i]) {
                if (parent[i] == -1) parent[i] = k;
                counts[i]++;
                mark[i] = k;
            }
    }
    free(parent);
    return NULL;
}
