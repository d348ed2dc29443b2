/* What the kernels and the model share. Numbers come out the same on every processor: products are
 * of whole numbers, and floats are added in one order of 16 lanes, never fused. */
#ifndef CIDER_H
#define CIDER_H

#include <stddef.h>
#include <stdint.h>

enum {
  ROWS = 16,          /* rows that share a table, and keys that are scored at a time */
  BLOCK = 64,         /* tokens of a block of the cache */
  COLUMNS = 32,       /* columns of a step */
  MAX_HEAD = 256,     /* numbers of a head */
  MAX_QUERIES = 32,   /* queries that attend at a time */
  RANK_BITS = 32,     /* an adapter's ranks, times their bits, are filled up to a multiple of this */
  MAX_RANK = 512,     /* of an adapter */
};

/* One matrix as it lies in a file; runtime/layout.py tells the order of its bytes. */
typedef struct {
  int32_t bits;           /* of a code: 2, 3, 4, or 8 */
  int32_t rows;           /* a multiple of ROWS */
  int32_t columns;        /* a multiple of COLUMNS */
  int32_t unused;
  const uint8_t *codes;
  const uint8_t *tables;  /* (rows / ROWS, 1 << bits); not for 8 bits */
  const float *affine;    /* (rows / ROWS, 2) scale and offset; for 8 bits a scale a row */
} matrix;

/* Vectors of 8-bit activations: value * scale. `sums` are those of the values. */
typedef struct {
  int8_t *values;         /* (vectors, stride) */
  ptrdiff_t stride;
  float *scales;
  int32_t *sums;
} activations;

/* What an adapter multiplies `rank` whole numbers with to add to a map's outputs. */
typedef struct {
  int32_t rank;           /* times bits a multiple of RANK_BITS; 0: the map is left alone */
  int32_t first;          /* where its ranks lie among those of all maps of one input */
  int32_t bits;           /* of a code: 8, or 4, of which a number is 2 * entry - 127 */
  int32_t unused;
  const uint8_t *codes;   /* (rows / ROWS, rank / 4) vectors of ROWS times 4 */
  const uint8_t *table;   /* (16); not for 8 bits */
  const float *scales;    /* (rows / ROWS) */
} factor;

/* Queries of one key-value head over one sequence's cache. Limits do not fall. */
typedef struct {
  int count, head, bits;             /* bits of a number in the cache: 16 or 8 */
  const float *query[MAX_QUERIES];   /* (head), scaled */
  float *out[MAX_QUERIES];           /* (head) */
  int limit[MAX_QUERIES];            /* keys that a query sees */
  const uint8_t *const *blocks;      /* of BLOCK keys each */
  size_t keys, values;               /* where in a block the head's keys and values lie */
  float *scores;                     /* (count, stride) */
  ptrdiff_t stride;                  /* at least the last limit, rounded up to ROWS */
} attention;

/* One set of functions for each kind of processor. */
typedef struct {
  const char *name;
  /* y[t][row] = (or, with `add`, +=) sum of weight * activation, for groups of rows from..to. */
  void (*multiply)(const matrix *w, int from, int to, const activations *x, int vectors, float *y,
                   ptrdiff_t y_stride, int add);
  /* Whatever takes a number that is not finite gives none: it reaches the logits. */
  void (*quantize)(const float *x, int n, int8_t *values, float *scale, int32_t *sum);
  void (*norm)(const float *x, const float *scale, float eps, int n, float *y);
  /* Norm of a head, then turned by its position, then times `factor`; in place. */
  void (*turn)(float *x, const float *scale, float eps, const float *cos, const float *sin,
               int head, float factor);
  void (*store_key)(const float *x, int head, int bits, uint8_t *block, int slot);
  void (*store_value)(const float *x, int head, int bits, uint8_t *block, int slot);
  void (*attend)(const attention *a);
  void (*gate)(float *gate, const float *up, int n); /* gate = silu(gate) * up */
  /* -log softmax(logits)[target], and whether none is greater and none before is equal. */
  float (*nats)(float *logits, int n, int target, uint8_t *first);
  /* y[t][row] += sum of factor * low, for groups of rows from..to. */
  void (*lift)(const factor *b, int from, int to, const activations *low, int vectors, float *y,
               ptrdiff_t y_stride);
} kernels;

/* The best set for this processor, or the one of that name; NULL if it cannot run here. */
const kernels *cider_kernels(const char *name);

/* Bytes of a head's keys (or values) in a block. */
static inline size_t cache_part(int head, int bits) {
  return bits == 8 ? (size_t)head * BLOCK + BLOCK * sizeof(float) : (size_t)head * BLOCK * 2;
}

#if defined(__x86_64__) || defined(__i386__)
#define CIDER_X86 1
extern const kernels kernels_avx2, kernels_avx512;
/* GCC knows AVX-VNNI from version 11, clang from 12. */
#ifndef CIDER_NO_AVXVNNI
#ifdef __clang__
#if __clang_major__ < 12
#define CIDER_NO_AVXVNNI 1
#endif
#elif __GNUC__ < 11
#define CIDER_NO_AVXVNNI 1
#endif
#endif
#ifndef CIDER_NO_AVXVNNI
extern const kernels kernels_avxvnni;
#endif
#elif defined(__aarch64__) && defined(__ARM_NEON)
#define CIDER_NEON 1
extern const kernels kernels_neon;
#endif
extern const kernels kernels_scalar;

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#endif
