/* The wide loops for processors with AVX2; on other families wide_v2.c has the only ones. */
#include "native.h"
#ifdef LEVELS
#pragma GCC target("arch=x86-64-v3")
#define LEVEL _v3
#include "grams.inc"
#include "products.inc"
#endif
