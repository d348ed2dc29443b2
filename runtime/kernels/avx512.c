/* AVX-512 with VNNI and VBMI: one instruction looks 64 codes up, one multiplies 64 bytes. */
#include "cider.h"
#ifdef CIDER_X86
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,avx2,f16c,prefer-vector-width=512")
#endif
#include <immintrin.h>
#define LANE_BYTES 64
#include "lanes.h"

#define MANY 12
#define SOME 4
#define AHEAD 8192
typedef __m512i block, sums;
/* 64 entries each: the lookup takes the low six bits of a code's byte, whatever stands above. */
typedef struct { __m512i table[3]; } lookup;

INLINE lanes load_half(const uint16_t *p) {
  return (lanes){{(floats)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p))}};
}

INLINE void store_half(uint16_t *p, lanes v) {
  _mm256_storeu_si256((__m256i *)p,
                      _mm512_cvtps_ph((__m512)v.part[0], _MM_FROUND_TO_NEAREST_INT));
}

INLINE lanes load_bytes(const int8_t *p) {
  const __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
  return (lanes){{(floats)_mm512_cvtepi32_ps(wide)}};
}

INLINE void store_bytes(int8_t *p, lanes v) {
  const __m512i wide = _mm512_cvttps_epi32((__m512)v.part[0]);
  _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(wide));
}

INLINE lookup tables_of(const int bits, const uint8_t *entries) {
  lookup found;
  __m512i number = _mm512_set_epi8(
      63, 62, 61, 60, 59, 58, 57, 56, 55, 54, 53, 52, 51, 50, 49, 48, 47, 46, 45, 44, 43, 42, 41,
      40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 25, 24, 23, 22, 21, 20, 19, 18,
      17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  if (bits == 8) return (lookup){{number, number, number}};
  __m128i own = _mm_setzero_si128();
  memcpy(&own, entries, (size_t)1 << bits);
  const __m512i wide = _mm512_broadcast_i32x4(own);
  UNROLL for (int t = 0; t < 3; t++) {
    const __m512i code = _mm512_and_si512(number, _mm512_set1_epi8((char)((1 << bits) - 1)));
    found.table[t] = _mm512_shuffle_epi8(wide, code);
    if (bits < 4) number = _mm512_srli_epi16(number, bits);
  }
  return found;
}

INLINE block vector_of(const int bits, const uint8_t *codes, int v, const lookup *tables) {
  const __m512i *at = (const __m512i *)codes;
  if (bits == 8) return _mm512_xor_si512(_mm512_loadu_si512(at + v), _mm512_set1_epi8(-128));
  if (bits == 4) {
    const __m512i code = _mm512_loadu_si512(at + v / 2);
    return _mm512_permutexvar_epi8(v % 2 ? _mm512_srli_epi16(code, 4) : code, tables->table[0]);
  }
  if (bits == 2) {
    const __m512i code = _mm512_loadu_si512(at + v / 4);
    if (v % 4 == 3) return _mm512_permutexvar_epi8(_mm512_srli_epi16(code, 2), tables->table[2]);
    return _mm512_permutexvar_epi8(code, tables->table[v % 4]);
  }
  if (v < 6) return _mm512_permutexvar_epi8(_mm512_loadu_si512(at + v / 2), tables->table[v % 2]);
  /* 0xca takes the second where the first has ones, else the third. */
  const __m512i low = _mm512_srli_epi16(_mm512_loadu_si512(at), 6);
  const __m512i middle = _mm512_srli_epi16(_mm512_loadu_si512(at + 1), 4);
  const __m512i high = _mm512_srli_epi16(_mm512_loadu_si512(at + 2), 2);
  __m512i code = _mm512_ternarylogic_epi32(_mm512_set1_epi8(3), low, middle, 0xca);
  code = _mm512_ternarylogic_epi32(_mm512_set1_epi8(15), code, high, 0xca);
  return _mm512_permutexvar_epi8(code, tables->table[v % 2]);
}

/* Bytes of 8 bits are raised by 128 to be unsigned; the sums begin lower by as much. */
INLINE sums start(const int bits, int32_t sum) {
  return _mm512_set1_epi32(bits == 8 ? -128 * sum : 0);
}

INLINE sums dot(const int bits, sums acc, block w, const int8_t *x) {
  (void)bits;
  int32_t four;
  memcpy(&four, x, 4);
  return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(four));
}

INLINE sums joined(sums a, sums b) { return _mm512_add_epi32(a, b); }

INLINE lanes whole(sums a) { return (lanes){{(floats)_mm512_cvtepi32_ps(a)}}; }

#define NAME "avx512"
#define KERNELS kernels_avx512
#include "body.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
