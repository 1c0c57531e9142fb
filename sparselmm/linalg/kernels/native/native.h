/* What the loops share: the arguments that a call hands over, and how wide loops are compiled.
 *
 * A loop takes its arguments as an array of Arg and returns NULL, or the text of an error. It may write a number
 * into *result. It runs without Python's lock, so it must not touch Python.
 */
#ifndef SPARSELMM_NATIVE_H
#define SPARSELMM_NATIVE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    void *data;
    int64_t n;         /* elements of an array, or the value of an integer */
    int64_t shape[3];
    int64_t stride[3]; /* in elements */
    int size;          /* bytes of an element */
    char kind;         /* 'i' signed, 'u' unsigned, 'f' floating */
} Arg;

typedef const char *Loop(const Arg *arg, double *result);

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

/* Wide loops (grams.inc, products.inc) are compiled for three kinds of x86-64 where the compiler can be told so in the
 * source, each time with a suffix to their names; module.c takes the widest that the processor at hand knows. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(ONE_LEVEL)
#define LEVELS
#endif
#define LOOP(name) LOOP_(name)
#ifdef LEVELS
#define LOOP_(name) JOIN(name, LEVEL)
#else
#define LOOP_(name) name
#endif

#if defined(__GNUC__)
#define INDEPENDENT _Pragma("GCC ivdep")
#define UNROLLED _Pragma("GCC unroll 8")
#define ALWAYS_INLINE __attribute__((always_inline))
#else
#define INDEPENDENT
#define UNROLLED
#define ALWAYS_INLINE
#endif

#define AT(type, arg) ((type *)(arg).data)
/* a loop compiled for indices of 4 and of 8 bytes */
#define BY_INDEX(arg, name, ...) ((arg).size == 4 ? name##32(__VA_ARGS__) : name##64(__VA_ARGS__))

#define WIDE_LOOPS(X)                                                                                                    \
    X(weighted_gram_lower) X(two_weighted_grams_lower) X(level_quadratic_forms) X(pattern_products) X(subtract_products) \
    X(squares_of_rows) X(cell_sums) X(quadratic_sums)
#define DECLARED(name) Loop name, name##_v2, name##_v3, name##_v4;
WIDE_LOOPS(DECLARED)

Loop takahashi, column_counts;
Loop level_starts, place_distinct, sort_by_pair, count_cells, fill_cells, add_level_products, join_components;
Loop count_tile_cells, place_tile_cells, place_tile_values;

#endif
