/* Sixteen floats side by side, in as many registers as they take. Every operation is the same on
 * each processor, bit for bit. LANE_BYTES is the width of a register. */
#include <math.h>
#include <string.h>

typedef float floats __attribute__((vector_size(LANE_BYTES)));
typedef float floats_at __attribute__((vector_size(LANE_BYTES), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(LANE_BYTES)));
enum { PART = LANE_BYTES / 4, PARTS = 16 / PART };
typedef struct { floats part[PARTS]; } lanes;

#define EACH UNROLL for (int e = 0; e < PARTS; e++)

INLINE lanes load(const float *p) {
  lanes v;
  EACH v.part[e] = *(const floats_at *)(p + e * PART);
  return v;
}

INLINE void store(float *p, lanes v) { EACH *(floats_at *)(p + e * PART) = v.part[e]; }

INLINE lanes all(float x) {
  lanes v;
  EACH v.part[e] = x - (floats){0};
  return v;
}

INLINE lanes add(lanes a, lanes b) {
  EACH a.part[e] += b.part[e];
  return a;
}

INLINE lanes subtract(lanes a, lanes b) {
  EACH a.part[e] -= b.part[e];
  return a;
}

INLINE lanes times(lanes a, lanes b) {
  EACH a.part[e] *= b.part[e];
  return a;
}

INLINE lanes over(lanes a, lanes b) {
  EACH a.part[e] /= b.part[e];
  return a;
}

/* The greater of each; b where a is not a number. */
INLINE lanes greater(lanes a, lanes b) {
  EACH {
    ints yes = a.part[e] > b.part[e];
    a.part[e] = (floats)(((ints)a.part[e] & yes) | ((ints)b.part[e] & ~yes));
  }
  return a;
}

/* The lesser of each; b where a is not a number. */
INLINE lanes lesser(lanes a, lanes b) {
  EACH {
    ints yes = a.part[e] < b.part[e];
    a.part[e] = (floats)(((ints)a.part[e] & yes) | ((ints)b.part[e] & ~yes));
  }
  return a;
}

INLINE lanes magnitude(lanes a) {
  EACH a.part[e] = (floats)((ints)a.part[e] & 0x7fffffff);
  return a;
}

/* The nearest whole number, ties to even, of a magnitude below 2**22. */
INLINE lanes nearest(lanes a) {
  EACH a.part[e] = (a.part[e] + 12582912.0f) - 12582912.0f;
  return a;
}

/* Sums and maxima over the lanes: halves are joined until one is left. */
INLINE float sum_of(lanes v) {
  float s[16];
  store(s, v);
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < half; i++) s[i] += s[i + half];
  return s[0];
}

INLINE float greatest_of(lanes v) {
  float s[16];
  store(s, v);
  for (int half = 8; half; half /= 2)
    for (int i = 0; i < half; i++) s[i] = s[i] > s[i + half] ? s[i] : s[i + half];
  return s[0];
}

/* exp as in Moshier's Cephes (expf), from -87 to 88; what is not a number counts as -87. */
INLINE lanes exponential(lanes x) {
  x = lesser(greater(x, all(-87.0f)), all(88.0f));
  lanes n = nearest(times(x, all(1.44269504f)));
  lanes r = subtract(x, times(n, all(0.693359375f)));
  r = subtract(r, times(n, all(-2.12194440e-4f)));
  lanes p = add(times(all(1.9875691500e-4f), r), all(1.3981999507e-3f));
  p = add(times(p, r), all(8.3334519073e-3f));
  p = add(times(p, r), all(4.1665795894e-2f));
  p = add(times(p, r), all(1.6666665459e-1f));
  p = add(times(p, r), all(5.0000001201e-1f));
  p = add(add(times(p, times(r, r)), r), all(1.0f));
  EACH {
    ints power = (__builtin_convertvector(n.part[e], ints) + 127) << 23;
    p.part[e] *= (floats)power;
  }
  return p;
}
