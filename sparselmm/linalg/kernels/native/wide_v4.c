/* The wide loops for processors with AVX-512; on other families wide_v2.c has the only ones. */
#include "native.h"
#ifdef LEVELS
#pragma GCC target("arch=x86-64-v4")
#define LEVEL _v4
#include "grams.inc"
#include "products.inc"
#endif
