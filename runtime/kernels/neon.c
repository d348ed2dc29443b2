/* 64-bit ARM with the dot product instructions (ARMv8.2; all of Apple's). */
#include "cider.h"
#ifdef CIDER_NEON
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include <arm_neon.h>
#include <string.h>
#define LANE_BYTES 16
#include "lanes.h"

#define MANY 4
#define SOME 2
#define AHEAD 1024
typedef struct { int8x16_t quarter[4]; } block;
typedef struct { int32x4_t quarter[4]; } sums;
typedef struct { uint8x16_t table; } lookup;
#define QUARTERS UNROLL for (int q = 0; q < 4; q++)

INLINE lanes load_half(const uint16_t *p) {
  lanes v;
  QUARTERS v.part[q] = (floats)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * q)));
  return v;
}

INLINE void store_half(uint16_t *p, lanes v) {
  QUARTERS vst1_u16(p + 4 * q, vreinterpret_u16_f16(vcvt_f16_f32((float32x4_t)v.part[q])));
}

INLINE lanes load_bytes(const int8_t *p) {
  lanes v;
  const int8x16_t bytes = vld1q_s8(p);
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_s8(vget_high_s8(bytes));
  v.part[0] = (floats)vcvtq_f32_s32(vmovl_s16(vget_low_s16(low)));
  v.part[1] = (floats)vcvtq_f32_s32(vmovl_s16(vget_high_s16(low)));
  v.part[2] = (floats)vcvtq_f32_s32(vmovl_s16(vget_low_s16(high)));
  v.part[3] = (floats)vcvtq_f32_s32(vmovl_s16(vget_high_s16(high)));
  return v;
}

INLINE void store_bytes(int8_t *p, lanes v) {
  int16x4_t words[4];
  QUARTERS words[q] = vmovn_s32(vcvtq_s32_f32((float32x4_t)v.part[q]));
  vst1_s8(p, vmovn_s16(vcombine_s16(words[0], words[1])));
  vst1_s8(p + 8, vmovn_s16(vcombine_s16(words[2], words[3])));
}

INLINE lookup tables_of(const int bits, const uint8_t *entries) {
  uint8_t own[16] = {0};
  if (bits != 8) memcpy(own, entries, (size_t)1 << bits);
  return (lookup){vld1q_u8(own)};
}

INLINE block vector_of(const int bits, const uint8_t *codes, int v, const lookup *tables) {
  block found;
  QUARTERS {
    const uint8_t *at = codes + 16 * q;
    if (bits == 8) {
      found.quarter[q] = vreinterpretq_s8_u8(vld1q_u8(at + v * 64));
      continue;
    }
    uint8x16_t code;
    if (bits == 4) {
      code = vld1q_u8(at + v / 2 * 64);
      code = v % 2 ? vshrq_n_u8(code, 4) : vandq_u8(code, vdupq_n_u8(15));
    } else if (bits == 2) {
      code = vshlq_u8(vld1q_u8(at + v / 4 * 64), vdupq_n_s8((int8_t)(-2 * (v % 4))));
      code = vandq_u8(code, vdupq_n_u8(3));
    } else {
      if (v < 6) {
        code = vld1q_u8(at + v / 2 * 64);
      } else {
        code = vshrq_n_u8(vld1q_u8(at), 6);
        code = vorrq_u8(code, vandq_u8(vshrq_n_u8(vld1q_u8(at + 64), 4), vdupq_n_u8(12)));
        code = vorrq_u8(code, vandq_u8(vshrq_n_u8(vld1q_u8(at + 128), 2), vdupq_n_u8(48)));
      }
      if (v % 2) code = vshrq_n_u8(code, 3);
      code = vandq_u8(code, vdupq_n_u8(7));
    }
    found.quarter[q] = vreinterpretq_s8_u8(vqtbl1q_u8(tables->table, code));
  }
  return found;
}

INLINE sums start(const int bits, int32_t sum) {
  (void)bits, (void)sum;
  sums found;
  QUARTERS found.quarter[q] = vdupq_n_s32(0);
  return found;
}

INLINE sums dot(const int bits, sums acc, block w, const int8_t *x) {
  (void)bits;
  int32_t four;
  memcpy(&four, x, 4);
  const int8x16_t wide = vreinterpretq_s8_s32(vdupq_n_s32(four));
  QUARTERS acc.quarter[q] = vdotq_s32(acc.quarter[q], w.quarter[q], wide);
  return acc;
}

INLINE sums joined(sums a, sums b) {
  QUARTERS a.quarter[q] = vaddq_s32(a.quarter[q], b.quarter[q]);
  return a;
}

INLINE lanes whole(sums a) {
  lanes v;
  QUARTERS v.part[q] = (floats)vcvtq_f32_s32(a.quarter[q]);
  return v;
}

#define NAME "neon"
#define KERNELS kernels_neon
#include "body.h"
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
