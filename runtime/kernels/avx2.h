/* AVX2, and with VNNI its 256-bit form; two registers of eight rows each. */
#include <immintrin.h>
#define LANE_BYTES 32
#include "lanes.h"

#define MANY 4
#define SOME 2
#define AHEAD 8192
typedef struct { __m256i half[2]; } block;
typedef struct { __m256i half[2]; } sums;
typedef struct { __m256i table[2]; } lookup;

INLINE lanes load_half(const uint16_t *p) {
  return (lanes){{(floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                  (floats)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p + 1))}};
}

INLINE void store_half(uint16_t *p, lanes v) {
  UNROLL for (int h = 0; h < 2; h++)
    _mm_storeu_si128((__m128i *)p + h,
                     _mm256_cvtps_ph((__m256)v.part[h], _MM_FROUND_TO_NEAREST_INT));
}

INLINE lanes load_bytes(const int8_t *p) {
  lanes v;
  UNROLL for (int h = 0; h < 2; h++) {
    const __m128i eight = _mm_loadl_epi64((const __m128i *)(p + 8 * h));
    v.part[h] = (floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(eight));
  }
  return v;
}

INLINE void store_bytes(int8_t *p, lanes v) {
  const __m256i a = _mm256_cvttps_epi32((__m256)v.part[0]);
  const __m256i b = _mm256_cvttps_epi32((__m256)v.part[1]);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
  _mm_storeu_si128((__m128i *)p, _mm_packs_epi16(_mm256_castsi256_si128(words),
                                                 _mm256_extracti128_si256(words, 1)));
}

/* 2 bits: half a byte has two codes, and each has a table of 16 for it. */
INLINE lookup tables_of(const int bits, const uint8_t *entries) {
  lookup found;
  const __m128i number = _mm_set_epi8(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  __m128i own = _mm_setzero_si128();
  if (bits != 8) memcpy(&own, entries, (size_t)1 << bits);
  __m128i first = own, second = own;
  if (bits == 2) {
    first = _mm_shuffle_epi8(own, _mm_and_si128(number, _mm_set1_epi8(3)));
    second = _mm_shuffle_epi8(own, _mm_srli_epi16(_mm_and_si128(number, _mm_set1_epi8(12)), 2));
  }
  found.table[0] = _mm256_broadcastsi128_si256(first);
  found.table[1] = _mm256_broadcastsi128_si256(second);
  return found;
}

INLINE __m256i low_bits(const int bits, __m256i v, int shift) {
  if (shift) v = _mm256_srli_epi16(v, shift);
  return _mm256_and_si256(v, _mm256_set1_epi8((char)((1 << bits) - 1)));
}

INLINE block vector_of(const int bits, const uint8_t *codes, int v, const lookup *tables) {
  block found;
  UNROLL for (int h = 0; h < 2; h++) {
    const __m256i *at = (const __m256i *)codes + h;
    if (bits == 8) {
      found.half[h] = _mm256_loadu_si256(at + 2 * v);
    } else if (bits == 4) {
      const __m256i code = low_bits(4, _mm256_loadu_si256(at + v / 2 * 2), v % 2 * 4);
      found.half[h] = _mm256_shuffle_epi8(tables->table[0], code);
    } else if (bits == 2) {
      const __m256i code = low_bits(4, _mm256_loadu_si256(at + v / 4 * 2), v % 4 / 2 * 4);
      found.half[h] = _mm256_shuffle_epi8(tables->table[v % 2], code);
    } else {
      __m256i code;
      if (v < 6) {
        code = _mm256_loadu_si256(at + v / 2 * 2);
      } else {
        const __m256i three = _mm256_set1_epi8(3), next = _mm256_set1_epi8(12);
        code = _mm256_and_si256(_mm256_srli_epi16(_mm256_loadu_si256(at), 6), three);
        code = _mm256_or_si256(code, _mm256_and_si256(
            _mm256_srli_epi16(_mm256_loadu_si256(at + 2), 4), next));
        code = _mm256_or_si256(code, _mm256_and_si256(
            _mm256_srli_epi16(_mm256_loadu_si256(at + 4), 2), _mm256_set1_epi8(48)));
      }
      found.half[h] = _mm256_shuffle_epi8(tables->table[0], low_bits(3, code, v % 2 * 3));
    }
  }
  return found;
}

INLINE sums start(const int bits, int32_t sum) {
  (void)bits, (void)sum;
  return (sums){{_mm256_setzero_si256(), _mm256_setzero_si256()}};
}

/* Weights are unsigned: of 8 bits, their signs go to the activations. Pairs of products stay
 * within 16 bits: 2 * 127 * 127, or for 8 bits 2 * 128 * 127. */
INLINE sums dot(const int bits, sums acc, block w, const int8_t *x) {
  int32_t four;
  memcpy(&four, x, 4);
  const __m256i wide = _mm256_set1_epi32(four);
  UNROLL for (int h = 0; h < 2; h++) {
    __m256i weight = w.half[h], value = wide;
    if (bits == 8) {
      value = _mm256_sign_epi8(wide, weight);
      weight = _mm256_abs_epi8(weight);
    }
#ifdef WITH_VNNI
    acc.half[h] = _mm256_dpbusd_avx_epi32(acc.half[h], weight, value);
#else
    const __m256i pairs = _mm256_maddubs_epi16(weight, value);
    acc.half[h] = _mm256_add_epi32(acc.half[h], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
  }
  return acc;
}

INLINE sums joined(sums a, sums b) {
  UNROLL for (int h = 0; h < 2; h++) a.half[h] = _mm256_add_epi32(a.half[h], b.half[h]);
  return a;
}

INLINE lanes whole(sums a) {
  return (lanes){{(floats)_mm256_cvtepi32_ps(a.half[0]), (floats)_mm256_cvtepi32_ps(a.half[1])}};
}

#include "body.h"
