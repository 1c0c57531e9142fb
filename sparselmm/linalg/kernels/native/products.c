/* Products of the large sparse block, given by tiles of its pattern, with panels of 1 to 16 columns. */
#include "native.h"

#include <string.h>

#define PIECE 16

typedef struct {
    const int64_t *ptr;
    const void *idx, *cells, *x;
    void *y;
    int64_t tiles, tile, m_out, k_out, k_in, stride, column;
} Product;

typedef void Sums(const Product *p, int64_t first, int64_t last);

/* A row of lanes is COUNT values of type PARTS. GCC and clang keep vectors of 32 bytes in registers on every processor
 * (of 64 bytes they do not: those go through memory where registers are shorter), so 64 bytes are a pair of them.
 * Elsewhere the lanes are plain numbers in a loop of fixed length. */
#define EACH(v) for (int v = 0; v < COUNT; v++)
#if defined(__GNUC__)
typedef float float4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef float float8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef double double4 __attribute__((vector_size(32), aligned(8), may_alias));
#define READ(row, v) (((const PARTS *)(row))[v])
#define WRITE(row, v, value) (((PARTS *)(row))[v] = (value))
#else
#define READ(row, v) ((row)[v])
#define WRITE(row, v, value) ((row)[v] = (value))
#endif

#define FLOAT float
#define LANES 1
#define COUNT 1
#define PARTS float
#define ZERO 0
#define KIND f1
#include "products_by_type.inc"
#if defined(__GNUC__)
#undef PARTS
#undef ZERO
#define ZERO {0}
#define PARTS float4
#endif
#undef LANES
#undef COUNT
#undef KIND
#define LANES 4
#define COUNT (LANES * (int)sizeof(FLOAT) / (int)sizeof(PARTS))
#define KIND f4
#include "products_by_type.inc"
#if defined(__GNUC__)
#undef PARTS
#define PARTS float8
#endif
#undef LANES
#undef KIND
#define LANES 8
#define KIND f8
#include "products_by_type.inc"
#undef LANES
#undef KIND
#define LANES 16
#define KIND f16
#include "products_by_type.inc"

#undef FLOAT
#undef PARTS
#undef ZERO
#undef LANES
#undef KIND
#define FLOAT double
#define PARTS double
#define ZERO 0
#define LANES 1
#define KIND d1
#include "products_by_type.inc"
#if defined(__GNUC__)
#undef PARTS
#undef ZERO
#define PARTS double4
#define ZERO {0}
#endif
#undef LANES
#undef KIND
#define LANES 4
#define KIND d4
#include "products_by_type.inc"
#undef LANES
#undef KIND
#define LANES 8
#define KIND d8
#include "products_by_type.inc"

/* by lanes, by index (2 or 4 bytes), by cells: ones, one byte, float, double */
#define ROW(kind) {{kind##_narrow_ones, kind##_narrow_bytes, kind##_narrow_floats, kind##_narrow_doubles},            \
                   {kind##_long_ones, kind##_long_bytes, kind##_long_floats, kind##_long_doubles}}
static Sums *const TABLE[7][2][4] = {ROW(f1), ROW(f4), ROW(f8), ROW(f16), ROW(d1), ROW(d4), ROW(d8)};

/* Where the cells are of one of these types: its place in the table, else -1. */
static int cell_type(const Arg *values, int ones) {
    if (ones) return 0;
    if (values->kind == 'u' && values->size == 1) return 1;
    if (values->kind == 'f') return values->size == 4 ? 2 : 3;
    return -1;
}

const char *cell_sums(const Arg *a, double *result) {
    (void)result; /* width, k_out, k_in, ones, ptr, idx, values, tile, x, y, stride, column, first, last */
    int64_t width = a[0].n, k_out = a[1].n, first = a[12].n, last = a[13].n;
    int kind = width == 1 ? 0 : width == 4 ? 1 : width == 8 ? 2 : width == 16 && a[8].size == 4 ? 3 : -1;
    int cell = cell_type(a + 6, (int)a[3].n);
    if (kind < 0 || cell < 0 || a[8].kind != 'f' || a[9].kind != 'f' || a[8].size != a[9].size)
        return "there is no product of these types, or with so many columns";
    if (!a[3].n && a[6].n != a[5].n * k_out * a[2].n) return "idx and values differ in length";
    Product p = {a[4].data, a[5].data, a[6].data, a[8].data, a[9].data, 0, a[7].n, a[9].n / (a[10].n * k_out), k_out, a[2].n,
                 a[10].n, a[11].n};
    if (first < 0 || last > p.m_out || a[11].n + width > a[10].n) return "the product does not fit in y";
    p.tiles = p.m_out ? (a[4].n - 1) / p.m_out : 0;
    TABLE[kind + (a[8].size == 8 ? 4 : 0)][a[5].size == 4][cell](&p, first, last);
    return NULL;
}

/* out[i] = sum_j a_ij B_j a_ij' */
#define FORMS(CELL, NAME)                                                                                           \
    static void NAME(const Arg *a, const CELL *cells) {                                                              \
        int64_t k_out = a[0].n, k_in = a[1].n, tile = a[5].n, m_out = a[7].shape[0], first = a[8].n, last = a[9].n;    \
        const int64_t *ptr = a[2].data, tiles = m_out ? (a[2].n - 1) / m_out : 0;                                     \
        const double *B = a[6].data;                                                                                 \
        double *out = a[7].data;                                                                                     \
        for (int64_t i = first; i < last; i++)                                                                       \
            memset(out + i * k_out * k_out, 0, (size_t)(k_out * k_out) * sizeof(double));                            \
        for (int64_t t = 0; t < tiles; t++)                                                                          \
            for (int64_t i = first; i < last; i++)                                                                   \
                for (int64_t ab = 0; ab < k_out * k_out; ab++) {                                                     \
                    int64_t s = t * m_out + i;                                                                       \
                    double total = 0.0;                                                                              \
                    for (int64_t e = ptr[s]; e < ptr[s + 1]; e++) {                                                  \
                        int64_t j = a[3].size == 2 ? ((const uint16_t *)a[3].data)[e] : ((const int32_t *)a[3].data)[e]; \
                        const double *middle = B + (t * tile + j) * k_in * k_in;                                     \
                        const CELL *left = cells + (e * k_out + ab / k_out) * k_in;                                  \
                        const CELL *right = cells + (e * k_out + ab % k_out) * k_in;                                 \
                        for (int64_t c = 0; c < k_in; c++)                                                           \
                            for (int64_t d = 0; d < k_in; d++)                                                       \
                                total += (double)left[c] * middle[c * k_in + d] * (double)right[d];                  \
                    }                                                                                                \
                    out[i * k_out * k_out + ab] += total;                                                            \
                }                                                                                                    \
    }
FORMS(uint8_t, forms_of_bytes)
FORMS(float, forms_of_floats)
FORMS(double, forms_of_doubles)

const char *quadratic_sums(const Arg *a, double *result) {
    (void)result; /* k_out, k_in, ptr, idx, values, tile, B, out, first, last */
    int cell = cell_type(a + 4, 0);
    if (cell < 0 || a[4].n != a[3].n * a[0].n * a[1].n) return "idx and values differ in length, or values in type";
    if (a[8].n < 0 || a[9].n > a[7].shape[0]) return "the levels are not those of out";
    if (cell == 1) forms_of_bytes(a, a[4].data);
    else if (cell == 2) forms_of_floats(a, a[4].data);
    else forms_of_doubles(a, a[4].data);
    return NULL;
}
