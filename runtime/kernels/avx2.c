/* Processors with AVX2. */
#include "cider.h"
#ifdef CIDER_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,f16c")
#endif
#define NAME "avx2"
#define KERNELS kernels_avx2
#include "avx2.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
