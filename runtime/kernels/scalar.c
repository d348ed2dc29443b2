/* Plain C, for any processor: the reference for all others. */
#include "cider.h"
#undef UNROLL /* speed is not what this is for */
#define UNROLL
#define LANE_BYTES 16
#include "lanes.h"

#define MANY 4
#define SOME 2
#define AHEAD 1024
typedef struct { int8_t lane[64]; } block;
typedef struct { int32_t row[16]; } sums;
typedef struct { const uint8_t *entries; } lookup;

/* IEEE 754 half precision, by its bits. */
INLINE float from_half(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
  union { uint32_t bits; float value; } u;
  if (rest >= 0x7c00) {
    u.bits = sign | 0x7f800000 | (rest & 0x3ff) << 13;
  } else if (rest >= 0x0400) {
    u.bits = sign | ((rest << 13) + (112u << 23));
  } else {
    u.value = (float)rest * 5.9604644775390625e-8f; /* 2**-24 */
    u.bits |= sign;
  }
  return u.value;
}

/* Ties to even; what is too large becomes infinite. */
INLINE uint16_t to_half(float value) {
  union { float value; uint32_t bits; } u = {value};
  const uint16_t sign = (uint16_t)(u.bits >> 16 & 0x8000);
  const uint32_t rest = u.bits & 0x7fffffff;
  if (rest > 0x7f800000) return sign | 0x7e00;
  if (rest >= 0x477ff000) return sign | 0x7c00;
  if (rest < 0x38800000) { /* adding 1/2 leaves steps of 2**-24 */
    u.bits = rest;
    u.value += 0.5f;
    return sign | (uint16_t)(u.bits - 0x3f000000);
  }
  return sign | (uint16_t)((rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13);
}

INLINE lanes load_half(const uint16_t *p) {
  float v[16];
  for (int i = 0; i < 16; i++) v[i] = from_half(p[i]);
  return load(v);
}

INLINE void store_half(uint16_t *p, lanes v) {
  float s[16];
  store(s, v);
  for (int i = 0; i < 16; i++) p[i] = to_half(s[i]);
}

INLINE lanes load_bytes(const int8_t *p) {
  float v[16];
  for (int i = 0; i < 16; i++) v[i] = (float)p[i];
  return load(v);
}

INLINE void store_bytes(int8_t *p, lanes v) {
  float s[16];
  store(s, v);
  for (int i = 0; i < 16; i++) p[i] = (int8_t)s[i];
}

INLINE lookup tables_of(const int bits, const uint8_t *entries) {
  (void)bits;
  return (lookup){entries};
}

INLINE block vector_of(const int bits, const uint8_t *codes, int v, const lookup *tables) {
  block found;
  for (int i = 0; i < 64; i++) {
    int code;
    if (bits == 8) {
      found.lane[i] = (int8_t)codes[v * 64 + i];
      continue;
    }
    if (bits == 4) {
      code = codes[v / 2 * 64 + i] >> v % 2 * 4 & 15;
    } else if (bits == 2) {
      code = codes[v / 4 * 64 + i] >> v % 4 * 2 & 3;
    } else if (v < 6) {
      code = codes[v / 2 * 64 + i] >> v % 2 * 3 & 7;
    } else {
      const int rest = codes[i] >> 6 | codes[64 + i] >> 6 << 2 | codes[128 + i] >> 6 << 4;
      code = rest >> v % 2 * 3 & 7;
    }
    found.lane[i] = (int8_t)tables->entries[code];
  }
  return found;
}

INLINE sums start(const int bits, int32_t sum) {
  (void)bits, (void)sum;
  return (sums){{0}};
}

INLINE sums dot(const int bits, sums acc, block w, const int8_t *x) {
  (void)bits;
  for (int r = 0; r < 16; r++)
    for (int c = 0; c < 4; c++) acc.row[r] += w.lane[r * 4 + c] * x[c];
  return acc;
}

INLINE sums joined(sums a, sums b) {
  for (int r = 0; r < 16; r++) a.row[r] += b.row[r];
  return a;
}

INLINE lanes whole(sums a) {
  float v[16];
  for (int r = 0; r < 16; r++) v[r] = (float)a.row[r];
  return load(v);
}

#define NAME "scalar"
#define KERNELS kernels_scalar
#include "body.h"
