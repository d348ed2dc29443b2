/* Which set of kernels this processor runs. */
#include "cider.h"
#include <string.h>
#if defined(CIDER_NEON) && defined(__linux__)
#include <sys/auxv.h>
#endif

static int runs(const kernels *set) {
#ifdef CIDER_X86
  __builtin_cpu_init();
  if (set == &kernels_avx512)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512vbmi");
  unsigned a = 1, b, c = 0, d; /* leaf 1: half precision is bit 29 of ecx */
  __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  const int avx2 = __builtin_cpu_supports("avx2") && (c >> 29 & 1);
  if (set == &kernels_avx2) return avx2;
#ifndef CIDER_NO_AVXVNNI
  if (set == &kernels_avxvnni) {
    a = 7, c = 1; /* leaf 7, part 1: AVX-VNNI is bit 4 of eax */
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return avx2 && (a >> 4 & 1);
  }
#endif
#endif
#ifdef CIDER_NEON
  if (set == &kernels_neon) {
#ifdef __linux__
    return (getauxval(AT_HWCAP) >> 20 & 1) != 0; /* HWCAP_ASIMDDP */
#else
    return 1;
#endif
  }
#endif
  return set == &kernels_scalar;
}

const kernels *cider_kernels(const char *name) {
  static const kernels *const sets[] = {
#ifdef CIDER_X86
      &kernels_avx512,
#ifndef CIDER_NO_AVXVNNI
      &kernels_avxvnni,
#endif
      &kernels_avx2,
#endif
#ifdef CIDER_NEON
      &kernels_neon,
#endif
      &kernels_scalar,
  };
  for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
    if ((!name || !strcmp(name, sets[i]->name)) && runs(sets[i])) return sets[i];
  return NULL;
}
