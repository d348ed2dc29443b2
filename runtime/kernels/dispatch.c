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
  if (set == &kernels_avx2 || set == &kernels_avxvnni) {
    if (!__builtin_cpu_supports("avx2")) return 0;
    if (set == &kernels_avx2) return 1;
    unsigned a = 7, b, c = 1, d; /* leaf 7, part 1: AVX-VNNI is bit 4 of eax */
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return a >> 4 & 1;
  }
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
      &kernels_avx512, &kernels_avxvnni, &kernels_avx2,
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
