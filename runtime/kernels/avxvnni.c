/* Processors with AVX2 and its form of VNNI. */
#include "cider.h"
#if defined(CIDER_X86) && !defined(CIDER_NO_AVXVNNI)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,avxvnni,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,avxvnni,f16c")
#endif
#define NAME "avxvnni"
#define KERNELS kernels_avxvnni
#define WITH_VNNI 1
#include "avx2.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
