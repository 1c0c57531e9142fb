/* The Python module: checks the arguments of a call, runs the loop without Python's lock. Limited API of 3.11. */
#ifndef Py_LIMITED_API
#define Py_LIMITED_API 0x030B0000
#endif
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "native.h"

#include <stdlib.h>
#include <string.h>

#define MOST 16

/* What an argument may be, one letter each:
 *   n  integer                          p  positions: (k,) int64, or int32 that are converted
 *   i  indices: int32 or int64          u  short indices: uint16 or int32
 *   q  int64                            d  float64
 *   s  float64 with any strides, 2-D    v  numbers of any type
 * Arrays are C-contiguous; a capital letter is written to. */

typedef struct {
    Py_buffer views[MOST];
    void *copies[MOST];
    int n_views, n_copies;
} Held;

static void release(Held *held) {
    while (held->n_views) PyBuffer_Release(&held->views[--held->n_views]);
    while (held->n_copies) free(held->copies[--held->n_copies]);
}

static char kind_of(const char *format) {
    char c = format ? format[0] : 'B';
    if (c == '@' || c == '=' || c == '<') c = format[1];
    if (c && strchr("bhilqn", c)) return 'i';
    if (c && strchr("BHILQN", c)) return 'u';
    return c == 'f' || c == 'd' ? 'f' : '?';
}

static int fits(char letter, const Arg *arg) {
    switch (letter) {
    case 'p':
    case 'i': return arg->kind == 'i' && (arg->size == 4 || arg->size == 8);
    case 'u': return (arg->kind == 'u' && arg->size == 2) || (arg->kind == 'i' && arg->size == 4);
    case 'q': return arg->kind == 'i' && arg->size == 8;
    case 'd':
    case 's': return arg->kind == 'f' && arg->size == 8;
    default: return arg->kind != '?';
    }
}

/* Positions as int64, in a copy where they are shorter. */
static int widened(Arg *arg, Held *held) {
    if (arg->size == 8) return 1;
    int64_t *wide = malloc((size_t)(arg->n ? arg->n : 1) * sizeof(int64_t));
    if (wide == NULL) return PyErr_NoMemory(), 0;
    held->copies[held->n_copies++] = wide;
    for (int64_t e = 0; e < arg->n; e++) wide[e] = ((const int32_t *)arg->data)[e];
    arg->data = wide;
    arg->size = 8;
    return 1;
}

static int take(PyObject *given, char letter, const char *function, int place, Arg *arg, Held *held) {
    int written = letter >= 'A' && letter <= 'Z';
    if (written) letter = (char)(letter - 'A' + 'a');
    if (letter == 'n') {
        arg->n = PyLong_AsLongLong(given);
        return !(arg->n == -1 && PyErr_Occurred());
    }
    Py_buffer *view = &held->views[held->n_views];
    int flags = PyBUF_FORMAT | (letter == 's' ? PyBUF_STRIDES : PyBUF_C_CONTIGUOUS) | (written ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(given, view, flags) < 0) return 0;
    held->n_views++;
    arg->data = view->buf;
    arg->size = (int)view->itemsize;
    arg->kind = kind_of(view->format);
    arg->n = view->itemsize ? view->len / view->itemsize : 0;
    for (int x = 0; x < 3; x++) {
        arg->shape[x] = x < view->ndim ? view->shape[x] : 1;
        arg->stride[x] = x < view->ndim && view->strides && view->itemsize ? view->strides[x] / view->itemsize : 0;
    }
    if (!fits(letter, arg) || view->ndim > 3 || (letter == 's' && view->ndim != 2)) {
        PyErr_Format(PyExc_TypeError, "%s: argument %d has a type that the loop is not compiled for", function, place + 1);
        return 0;
    }
    return letter != 'p' || widened(arg, held);
}

/* Run a loop; `letters` are its arguments, after a colon what it returns: b a truth value, f a number. */
static PyObject *run(PyObject *args, const char *function, const char *letters, Loop *loop) {
    const char *colon = strchr(letters, ':');
    Py_ssize_t wanted = colon ? colon - letters : (Py_ssize_t)strlen(letters);
    if (PyTuple_Size(args) != wanted)
        return PyErr_Format(PyExc_TypeError, "%s takes %zd arguments, not %zd", function, wanted, PyTuple_Size(args));
    Arg given[MOST];
    Held held;
    memset(given, 0, sizeof given);
    held.n_views = held.n_copies = 0;
    for (int place = 0; place < wanted; place++)
        if (!take(PyTuple_GetItem(args, place), letters[place], function, place, given + place, &held)) {
            release(&held);
            return NULL;
        }
    double result = 0.0;
    const char *error;
    Py_BEGIN_ALLOW_THREADS
    error = loop(given, &result);
    Py_END_ALLOW_THREADS
    release(&held);
    if (error) return PyErr_Format(PyExc_ValueError, "%s: %s", function, error);
    if (colon) return colon[1] == 'b' ? PyBool_FromLong(result != 0.0) : PyFloat_FromDouble(result);
    Py_RETURN_NONE;
}

/* The wide loops for the processor at hand. */
#ifdef LEVELS
static int level(void) {
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd"))
        return 4;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2") ? 3 : 2;
}
#define CHOSEN(name)                                                       \
    const char *name(const Arg *arg, double *result) {                     \
        static Loop *loop;                                                 \
        if (!loop) {                                                       \
            int known = level();                                           \
            loop = known == 4 ? name##_v4 : known == 3 ? name##_v3 : name##_v2; \
        }                                                                  \
        return loop(arg, result);                                          \
    }
WIDE_LOOPS(CHOSEN)
#endif

/* name, what its arguments are */
#define LOOPS(X)                                  \
    X(weighted_gram_lower, "piddqqqndD")          \
    X(two_weighted_grams_lower, "pidqqqnddDD")    \
    X(level_quadratic_forms, "pidnsD")            \
    X(pattern_products, "piddD")                  \
    X(subtract_products, "pidpipnnD")             \
    X(squares_of_rows, "pidpidpidnn:f")           \
    X(takahashi, "qqdnsD")                        \
    X(column_counts, "qqQ")                       \
    X(level_starts, "iQ")                         \
    X(place_distinct, "iiqqII:b")                 \
    X(sort_by_pair, "iiqqII")                     \
    X(count_cells, "iiqQ")                        \
    X(fill_cells, "iiqdndndnID")                  \
    X(add_level_products, "idndndnD")             \
    X(join_components, "iinnQ")                   \
    X(cell_sums, "nnnnquvnvVnnnn")                \
    X(quadratic_sums, "nnquvndDnn")               \
    X(count_tile_cells, "iinnQ")                  \
    X(place_tile_cells, "iinnqU")                 \
    X(place_tile_values, "iinnqvV")

#define CALL(name, letters) \
    static PyObject *call_##name(PyObject *self, PyObject *args) { return (void)self, run(args, #name, letters, name); }
LOOPS(CALL)

#define METHOD(name, letters) {#name, call_##name, METH_VARARGS, NULL},
static PyMethodDef methods[] = {LOOPS(METHOD){NULL, NULL, 0, NULL}};
static PyModuleDef_Slot slots[] = {{0, NULL}};
static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_native", "Loops in C; `_native.pyi` describes them.", 0, methods, slots, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module); }
