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

/* One source, several compilations: the processor at hand takes the widest that it knows. NO_CLONES leaves this
 * to the flags of the compiler, for platforms without indirect functions (musl, macOS, Windows). */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__gnu_linux__) && !defined(NO_CLONES)
#define WIDE __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define WIDE
#endif

#if defined(__GNUC__)
#define INDEPENDENT _Pragma("GCC ivdep")
#define UNROLLED _Pragma("GCC unroll 16")
#else
#define INDEPENDENT
#define UNROLLED
#endif

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define AT(type, arg) ((type *)(arg).data)
/* a loop compiled for indices of 4 and of 8 bytes */
#define BY_INDEX(arg, name, ...) ((arg).size == 4 ? name##32(__VA_ARGS__) : name##64(__VA_ARGS__))

Loop weighted_gram_lower, two_weighted_grams_lower, level_quadratic_forms, pattern_products, subtract_products,
    squares_of_rows;
Loop takahashi, column_counts;
Loop level_starts, place_distinct, sort_by_pair, count_cells, fill_cells, add_level_products, join_components;
Loop cell_sums, quadratic_sums, count_tile_cells, place_tile_cells, place_tile_values;

#endif
