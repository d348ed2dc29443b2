/* Compares every set of kernels that runs here with the plain one, bit for bit, on random numbers.
 * Compiled with the kernels; prints the sets, and ends with 1 at the first that differs. */
#include "cider.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS = 2, STEPS = 5, WIDTH = COLUMNS * STEPS, VECTORS = 21, HEAD = 48, KEYS = 133 };

static uint64_t state = 88172645463325252u;

static uint32_t number(void) { /* xorshift, Marsaglia 2003 */
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 32);
}

static float real(void) { return (float)(int32_t)number() / 1073741824.0f; }

static void reals(float *x, int n) {
  for (int i = 0; i < n; i++) x[i] = real();
}

static void same(const char *what, const void *a, const void *b, size_t size) {
  if (!memcmp(a, b, size)) return;
  printf("%s differs\n", what);
  exit(1);
}

static void compare_products(const kernels *a, const kernels *b, int bits) {
  static uint8_t codes[GROUPS * ROWS * WIDTH] __attribute__((aligned(64)));
  static uint8_t tables[GROUPS * 16];
  static float affine[GROUPS * ROWS], scales[VECTORS], y[2][VECTORS][GROUPS * ROWS];
  static int8_t values[VECTORS * WIDTH];
  static int32_t sums[VECTORS];
  for (size_t i = 0; i < sizeof codes; i++) codes[i] = (uint8_t)number();
  for (size_t i = 0; i < sizeof tables; i++) tables[i] = number() % 128;
  reals(affine, GROUPS * ROWS);
  reals(scales, VECTORS);
  memset(sums, 0, sizeof sums);
  for (int i = 0; i < VECTORS * WIDTH; i++) {
    values[i] = (int8_t)((int)(number() % 255) - 127);
    sums[i / WIDTH] += values[i];
  }
  const matrix w = {bits, GROUPS * ROWS, WIDTH, 0, codes, tables, affine};
  const activations x = {values, WIDTH, scales, sums};
  for (int vectors = 1; vectors <= VECTORS; vectors++) {
    a->multiply(&w, 0, GROUPS, &x, vectors, y[0][0], GROUPS * ROWS, 0);
    b->multiply(&w, 0, GROUPS, &x, vectors, y[1][0], GROUPS * ROWS, 0);
    same("multiply", y[0], y[1], (size_t)vectors * sizeof y[0][0]);
  }
}

static void compare_adapters(const kernels *a, const kernels *b, int bits) {
  enum { MOST = 24 };
  const int rank = 3 * RANK_BITS / bits;
  static uint8_t codes[GROUPS * ROWS * MOST], table[16];
  static int8_t values[VECTORS * MOST];
  float scales[VECTORS], own[GROUPS], y[2][VECTORS][GROUPS * ROWS] = {{{0}}};
  int32_t sums[VECTORS] = {0};
  for (size_t i = 0; i < sizeof codes; i++)
    codes[i] = (uint8_t)(bits == 8 ? number() % 255 - 127 : number());
  for (int i = 0; i < VECTORS * rank; i++) {
    values[i] = (int8_t)((int)(number() % 255) - 127);
    sums[i / rank] += values[i];
  }
  for (int i = 0; i < 16; i++) table[i] = (uint8_t)(number() % 128);
  reals(scales, VECTORS), reals(own, GROUPS);
  const factor f = {rank, 0, bits, 0, codes, table, own};
  const activations low = {values, rank, scales, sums};
  a->lift(&f, 0, GROUPS, &low, VECTORS, y[0][0], GROUPS * ROWS);
  b->lift(&f, 0, GROUPS, &low, VECTORS, y[1][0], GROUPS * ROWS);
  same("lift", y[0], y[1], sizeof y[0]);
}

static void compare_vectors(const kernels *a, const kernels *b) {
  float x[WIDTH], scale[WIDTH], one[WIDTH], two[WIDTH], cos[HEAD], sin[HEAD], factors[2];
  int8_t values[2][WIDTH];
  int32_t sums[2];
  uint8_t first[2];
  reals(x, WIDTH), reals(scale, WIDTH), reals(cos, HEAD), reals(sin, HEAD);
  a->quantize(x, WIDTH, values[0], &factors[0], &sums[0]);
  b->quantize(x, WIDTH, values[1], &factors[1], &sums[1]);
  same("quantize", values[0], values[1], WIDTH);
  same("quantize: scale", &factors[0], &factors[1], sizeof(float));
  same("quantize: sum", &sums[0], &sums[1], sizeof(int32_t));
  a->norm(x, scale, 1e-6f, WIDTH, one);
  b->norm(x, scale, 1e-6f, WIDTH, two);
  same("norm", one, two, sizeof one);
  a->turn(one, scale, 1e-6f, cos, sin, HEAD, 0.25f);
  b->turn(two, scale, 1e-6f, cos, sin, HEAD, 0.25f);
  same("turn", one, two, sizeof one);
  a->gate(one, x, WIDTH);
  b->gate(two, x, WIDTH);
  same("gate", one, two, sizeof one);
  factors[0] = a->nats(one, WIDTH - 3, 7, &first[0]);
  factors[1] = b->nats(two, WIDTH - 3, 7, &first[1]);
  same("nats", &factors[0], &factors[1], sizeof(float));
  same("nats: first", &first[0], &first[1], 1);
}

static void compare_attention(const kernels *a, const kernels *b, int bits) {
  enum { BLOCKS = (KEYS + BLOCK - 1) / BLOCK, QUERIES = 11 };
  static uint8_t cache[2][BLOCKS][2 * (HEAD * BLOCK * 2 + BLOCK * 4)]
      __attribute__((aligned(64)));
  static float queries[QUERIES][HEAD], out[2][QUERIES][HEAD], scores[QUERIES * BLOCKS * BLOCK];
  const kernels *const sets[] = {a, b};
  const uint8_t *blocks[2][BLOCKS];
  const size_t part = cache_part(HEAD, bits);
  memset(cache, 0, sizeof cache);
  for (int k = 0; k < KEYS; k++) {
    float key[HEAD], value[HEAD];
    reals(key, HEAD), reals(value, HEAD);
    key[k % HEAD] *= 1e-6f; /* beyond half precision's normal numbers */
    for (int s = 0; s < 2; s++) {
      uint8_t *block = cache[s][k / BLOCK];
      blocks[s][k / BLOCK] = block;
      sets[s]->store_key(key, HEAD, bits, block, k % BLOCK);
      sets[s]->store_value(value, HEAD, bits, block + part, k % BLOCK);
    }
  }
  same("the cache", cache[0], cache[1], sizeof cache[0]);
  reals(queries[0], QUERIES * HEAD);
  for (int s = 0; s < 2; s++) {
    attention job = {.count = QUERIES, .head = HEAD, .bits = bits, .blocks = blocks[s],
                     .values = part, .scores = scores, .stride = BLOCKS * BLOCK};
    for (int i = 0; i < QUERIES; i++) {
      job.query[i] = queries[i];
      job.out[i] = out[s][i];
      job.limit[i] = KEYS - QUERIES + 1 + i;
    }
    sets[s]->attend(&job);
  }
  same("attend", out[0], out[1], sizeof out[0]);
}

int main(void) {
  const char *const names[] = {"avx2", "avxvnni", "avx512", "neon"};
  const kernels *plain = cider_kernels("scalar");
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const kernels *set = cider_kernels(names[i]);
    if (!set) continue;
    printf("%s\n", names[i]);
    for (int round = 0; round < 3; round++) {
      const int widths[] = {2, 3, 4, 8};
      for (int w = 0; w < 4; w++) compare_products(plain, set, widths[w]);
      compare_vectors(plain, set);
      compare_adapters(plain, set, 8);
      compare_adapters(plain, set, 4);
      compare_attention(plain, set, 16);
      compare_attention(plain, set, 8);
    }
  }
  return 0;
}
