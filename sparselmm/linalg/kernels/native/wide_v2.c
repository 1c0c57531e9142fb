/* The wide loops for any x86-64 processor; on other families wide_v2.c has the only ones. */
#include "native.h"
#ifdef LEVELS
#define LEVEL _v2
#endif
#include "grams.inc"
#include "products.inc"
