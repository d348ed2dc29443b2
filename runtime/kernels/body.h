/* The functions of one kind of processor, on top of what its file defines before:
 *   LANE_BYTES and lanes.h; load_half, store_half, load_bytes, store_bytes;
 *   block (64 lanes of a byte), sums (16 whole numbers), lookup (tables in registers);
 *   tables_of, vector_of, dot, start, whole; MANY vectors that are multiplied at a time. */

/* Sums that one vector is spread over, for the latency of an instruction. */
#define CHAINS 4

/* Bytes that an adapter's second factor is fetched ahead, being read in short pieces. */
#define LIFTED 4096

/* What is read once for a token and not before the next: it does not displace what is read again. */
INLINE void stream(const uint8_t *codes, int lines) {
  UNROLL for (int line = 0; line < lines; line++)
    __builtin_prefetch(codes + AHEAD + line * 64, 0, 0);
}

/* `vectors` vectors with one group of rows. Whole numbers: any order gives the same. */
INLINE void group(const int bits, const int vectors, const matrix *w, int g, const activations *x,
                  int t, float *y, ptrdiff_t y_stride, int add_up) {
  const int steps = w->columns / COLUMNS;
  const uint8_t *codes = w->codes + (size_t)g * ROWS * w->columns * bits / 8;
  const lookup tables = tables_of(bits, w->tables + ((size_t)g << bits));
  const int8_t *at = x->values + t * x->stride;
  sums acc[MANY > CHAINS ? MANY : CHAINS];
  if (vectors == 1) {
    acc[0] = start(bits, x->sums[t]);
    UNROLL for (int c = 1; c < CHAINS; c++) acc[c] = start(bits, 0);
  } else {
    UNROLL for (int v = 0; v < vectors; v++) acc[v] = start(bits, x->sums[t + v]);
  }
  for (int s = 0; s < steps; s++) {
    if (vectors == 1) {
      stream(codes, bits);
      UNROLL for (int v = 0; v < 8; v++)
        acc[v % CHAINS] = dot(bits, acc[v % CHAINS], vector_of(bits, codes, v, &tables), at + v * 4);
    } else {
      UNROLL for (int v = 0; v < 8; v++) {
        const block weights = vector_of(bits, codes, v, &tables);
        UNROLL for (int i = 0; i < vectors; i++)
          acc[i] = dot(bits, acc[i], weights, at + i * x->stride + v * 4);
      }
    }
    codes += bits * 64;
    at += COLUMNS;
  }
  if (vectors == 1)
    UNROLL for (int c = 1; c < CHAINS; c++) acc[0] = joined(acc[0], acc[c]);
  UNROLL for (int v = 0; v < vectors; v++) {
    float *out = y + (t + v) * y_stride + (ptrdiff_t)g * ROWS;
    lanes found = whole(acc[v]);
    if (bits == 8) {
      found = times(found, load(w->affine + (ptrdiff_t)g * ROWS));
    } else {
      const float offset = w->affine[2 * g + 1] * (float)x->sums[t + v];
      found = add(times(found, all(w->affine[2 * g])), all(offset));
    }
    found = times(found, all(x->scales[t + v]));
    store(out, add_up ? add(load(out), found) : found);
  }
}

INLINE void groups(const int bits, const matrix *w, int from, int to, const activations *x,
                   int vectors, float *y, ptrdiff_t y_stride, int add_up) {
  for (int g = from; g < to; g++) {
    int t = 0;
    for (; t + MANY <= vectors; t += MANY) group(bits, MANY, w, g, x, t, y, y_stride, add_up);
    for (; t + SOME <= vectors; t += SOME) group(bits, SOME, w, g, x, t, y, y_stride, add_up);
    for (; t < vectors; t++) group(bits, 1, w, g, x, t, y, y_stride, add_up);
  }
}

static void multiply(const matrix *w, int from, int to, const activations *x, int vectors,
                     float *y, ptrdiff_t y_stride, int add_up) {
  switch (w->bits) {
    case 2: groups(2, w, from, to, x, vectors, y, y_stride, add_up); break;
    case 3: groups(3, w, from, to, x, vectors, y, y_stride, add_up); break;
    case 4: groups(4, w, from, to, x, vectors, y, y_stride, add_up); break;
    default: groups(8, w, from, to, x, vectors, y, y_stride, add_up);
  }
}

/* 0 as long as all numbers are finite, else not a number: it is added where such a number would be
 * lost in a maximum or a clamp, so that a model which overflows says so at its end. */
INLINE lanes overflow(lanes found, lanes x) { return add(found, subtract(x, x)); }

/* Eight bits with one scale: the greatest magnitude is 127. What is not a number becomes -127, and the
 * scale is none if one of the numbers is not finite. */
static void quantize(const float *x, int n, int8_t *values, float *scale, int32_t *sum) {
  lanes top = all(0.0f), odd = all(0.0f);
  for (int i = 0; i < n; i += 16) {
    top = greater(magnitude(load(x + i)), top);
    odd = overflow(odd, load(x + i));
  }
  const float most = greatest_of(top);
  const float factor = most > 1e-30f ? 127.0f / most : 0.0f;
  lanes total = all(0.0f);
  for (int i = 0; i < n; i += 16) {
    lanes v = times(load(x + i), all(factor));
    v = nearest(lesser(greater(v, all(-127.0f)), all(127.0f)));
    total = add(total, v);
    store_bytes(values + i, v);
  }
  *scale = (most > 1e-30f ? most / 127.0f : 0.0f) + sum_of(odd);
  *sum = (int32_t)sum_of(total); /* whole numbers below 2**24: exact */
}

/* Squares that overflow leave no number, not zeros. */
static void norm(const float *x, const float *scale, float eps, int n, float *y) {
  lanes squares = all(0.0f);
  for (int i = 0; i < n; i += 16) squares = add(squares, times(load(x + i), load(x + i)));
  const float mean = sum_of(squares) / (float)n;
  const float inverse = 1.0f / sqrtf(mean + eps) + (mean - mean);
  for (int i = 0; i < n; i += 16)
    store(y + i, times(times(load(x + i), all(inverse)), load(scale + i)));
}

static void turn(float *x, const float *scale, float eps, const float *cos, const float *sin,
                 int head, float factor) {
  const int half = head / 2;
  norm(x, scale, eps, head, x);
  for (int i = 0; i < half; i++) {
    const float a = x[i], b = x[i + half];
    x[i] = (a * cos[i] - b * sin[i]) * factor;
    x[i + half] = (b * cos[i] + a * sin[i]) * factor;
  }
}

/* A block's keys lie in sixteens: by number of the head, 16 keys side by side. Its values lie one
 * after the other. In 8 bits the scales of all follow. */
static void store_key(const float *x, int head, int bits, uint8_t *block, int slot) {
  const ptrdiff_t at = (ptrdiff_t)(slot / ROWS) * ROWS * head + slot % ROWS;
  if (bits == 8) {
    int8_t values[MAX_HEAD];
    int32_t sum;
    float *scales = (float *)(block + (size_t)head * BLOCK);
    quantize(x, head, values, &scales[slot], &sum);
    for (int i = 0; i < head; i++) ((int8_t *)block)[at + i * ROWS] = values[i];
  } else {
    uint16_t values[MAX_HEAD];
    for (int i = 0; i < head; i += 16) store_half(values + i, load(x + i));
    for (int i = 0; i < head; i++) ((uint16_t *)block)[at + i * ROWS] = values[i];
  }
}

static void store_value(const float *x, int head, int bits, uint8_t *block, int slot) {
  if (bits == 8) {
    int32_t sum;
    float *scales = (float *)(block + (size_t)head * BLOCK);
    quantize(x, head, (int8_t *)block + slot * head, &scales[slot], &sum);
  } else {
    for (int i = 0; i < head; i += 16)
      store_half((uint16_t *)block + slot * head + i, load(x + i));
  }
}

/* Sixteen keys (or values) of the cache as floats, in the order in which they lie. */
INLINE void widen(const attention *a, size_t part, int place, int values, float *to) {
  const uint8_t *block = a->blocks[place / BLOCK] + part;
  const int slot = place % BLOCK, count = a->head * ROWS;
  if (a->bits == 8) {
    const int8_t *from = (const int8_t *)block + (ptrdiff_t)slot * a->head;
    const float *scales = (const float *)(block + (size_t)a->head * BLOCK) + slot;
    const lanes scale = load(scales);
    for (int i = 0; i < count; i += 16)
      store(to + i, times(load_bytes(from + i), values ? all(scales[i / a->head]) : scale));
  } else {
    const uint16_t *from = (const uint16_t *)block + (ptrdiff_t)slot * a->head;
    for (int i = 0; i < count; i += 16) store(to + i, load_half(from + i));
  }
}

/* What is read three sixteens later, of the keys and then of the values: blocks lie apart, and no
 * processor looks there by itself. */
INLINE void ahead(const attention *a, int place) {
  const int end = (a->limit[a->count - 1] + ROWS - 1) / ROWS * ROWS, to = place + 3 * ROWS;
  if (to >= 2 * end) return;
  const int of = to < end ? to : to - end;
  const size_t size = (size_t)a->head * ROWS * (size_t)a->bits / 8;
  const uint8_t *next = a->blocks[of / BLOCK] + (to < end ? a->keys : a->values) +
                        of % BLOCK / ROWS * size;
  for (size_t line = 0; line < size; line += 64) __builtin_prefetch(next + line);
}

/* Scores of 16 keys with `n` queries. */
INLINE void score(const int n, const float *keys, const attention *a, int first, int place) {
  lanes even[4], odd[4];
  UNROLL for (int i = 0; i < n; i++) even[i] = odd[i] = all(0.0f);
  for (int d = 0; d < a->head; d += 2) {
    const lanes k0 = load(keys + d * ROWS), k1 = load(keys + d * ROWS + ROWS);
    UNROLL for (int i = 0; i < n; i++) {
      const float *q = a->query[first + i] + d;
      even[i] = add(even[i], times(k0, all(q[0])));
      odd[i] = add(odd[i], times(k1, all(q[1])));
    }
  }
  UNROLL for (int i = 0; i < n; i++)
    store(a->scores + (first + i) * a->stride + place, add(even[i], odd[i]));
}

/* Add the values of up to 16 keys, by their weights, to 16 * n numbers. */
INLINE void mix(const int n, const float *values, int head, const float *weight, int keys,
                float *out) {
  lanes acc[4];
  UNROLL for (int c = 0; c < n; c++) acc[c] = load(out + c * 16);
  for (int j = 0; j < keys; j++) {
    const lanes p = all(weight[j]);
    UNROLL for (int c = 0; c < n; c++)
      acc[c] = add(acc[c], times(load(values + j * head + c * 16), p));
  }
  UNROLL for (int c = 0; c < n; c++) store(out + c * 16, acc[c]);
}

INLINE void softmax(float *scores, int limit) {
  const int end = (limit + ROWS - 1) / ROWS * ROWS;
  for (int j = limit; j < end; j++) scores[j] = -3e38f;
  lanes top = load(scores), total = all(0.0f), odd = all(0.0f);
  for (int j = ROWS; j < end; j += ROWS) top = greater(load(scores + j), top);
  for (int j = 0; j < end; j += ROWS) odd = overflow(odd, load(scores + j));
  top = all(greatest_of(top));
  for (int j = 0; j < end; j += ROWS)
    store(scores + j, exponential(subtract(load(scores + j), top)));
  for (int j = limit; j < end; j++) scores[j] = 0.0f;
  for (int j = 0; j < end; j += ROWS) total = add(total, load(scores + j));
  const float inverse = 1.0f / (sum_of(total) + sum_of(odd));
  for (int j = 0; j < end; j += ROWS) store(scores + j, times(load(scores + j), all(inverse)));
}

static void attend(const attention *a) {
  const int head = a->head, last = a->limit[a->count - 1];
  const int end = (last + ROWS - 1) / ROWS * ROWS;
  float wide[MAX_HEAD * ROWS] __attribute__((aligned(64)));
  int active = 0;
  for (int place = -3 * ROWS; place < 0; place += ROWS) ahead(a, place);
  for (int place = 0; place < last; place += ROWS) {
    ahead(a, place);
    widen(a, a->keys, place, 0, wide);
    while (a->limit[active] <= place) active++;
    int i = active;
    for (; i + 4 <= a->count; i += 4) score(4, wide, a, i, place);
    switch (a->count - i) {
      case 3: score(3, wide, a, i, place); break;
      case 2: score(2, wide, a, i, place); break;
      case 1: score(1, wide, a, i, place);
    }
  }
  for (int i = 0; i < a->count; i++) {
    softmax(a->scores + i * a->stride, a->limit[i]);
    memset(a->out[i], 0, (size_t)head * sizeof(float));
  }
  active = 0;
  for (int place = 0; place < last; place += ROWS) {
    ahead(a, end + place);
    widen(a, a->values, place, 1, wide);
    while (a->limit[active] <= place) active++;
    for (int i = active; i < a->count; i++) {
      const int keys = a->limit[i] - place < ROWS ? a->limit[i] - place : ROWS;
      const float *weight = a->scores + i * a->stride + place;
      int d = 0;
      for (; d + 64 <= head; d += 64) mix(4, wide + d, head, weight, keys, a->out[i] + d);
      for (; d < head; d += 16) mix(1, wide + d, head, weight, keys, a->out[i] + d);
    }
  }
}

static void gate(float *gates, const float *up, int n) {
  for (int i = 0; i < n; i += 16) {
    const lanes g = load(gates + i);
    const lanes below = add(all(1.0f), exponential(subtract(all(0.0f), g)));
    store(gates + i, times(over(g, below), load(up + i)));
  }
}

static float nats(float *logits, int n, int target, uint8_t *first) {
  const int end = (n + 15) / 16 * 16;
  for (int i = n; i < end; i++) logits[i] = -3e38f;
  lanes top = load(logits), total = all(0.0f), odd = all(0.0f);
  for (int i = 16; i < end; i += 16) top = greater(load(logits + i), top);
  for (int i = 0; i < end; i += 16) odd = overflow(odd, load(logits + i));
  const float most = greatest_of(top);
  for (int i = 0; i < end; i += 16)
    total = add(total, exponential(subtract(load(logits + i), all(most))));
  *first = logits[target] == most;
  for (int i = 0; i < target && *first; i++) *first = logits[i] != most;
  const float lost = sum_of(odd);
  *first = *first && lost == 0.0f;
  return (float)(log((double)sum_of(total)) + ((double)most - (double)logits[target])) + lost;
}

/* `vectors` vectors of ranks with one group of rows of an adapter's second factor. */
INLINE void lift_group(const int bits, const int vectors, const factor *b, int g,
                       const activations *low, int t, float *y, ptrdiff_t y_stride) {
  const uint8_t *codes = b->codes + (ptrdiff_t)g * b->rank * ROWS * bits / 8;
  const int8_t *at = low->values + t * low->stride;
  const lookup tables = tables_of(bits, b->table);
  const lanes scale = all(b->scales[g]);
  sums acc[MANY];
  UNROLL for (int i = 0; i < vectors; i++) acc[i] = start(bits, low->sums[t + i]);
  for (int r = 0; r < b->rank; r += RANK_BITS / bits) {
    UNROLL for (int v = 0; v < 8 / bits; v++) {
      const block weights = vector_of(bits, codes, v, &tables);
      UNROLL for (int i = 0; i < vectors; i++)
        acc[i] = dot(bits, acc[i], weights, at + i * low->stride + r + v * 4);
    }
    codes += 64;
  }
  UNROLL for (int i = 0; i < vectors; i++) {
    float *out = y + (t + i) * y_stride + (ptrdiff_t)g * ROWS;
    lanes found = whole(acc[i]);
    if (bits == 4) found = subtract(add(found, found), all((float)(127 * low->sums[t + i])));
    store(out, add(load(out), times(times(found, scale), all(low->scales[t + i]))));
  }
}

/* The same of one vector, over some groups. With a rank that the compiler knows, what is the same for
 * all groups stays in registers. */
INLINE void lift_one(const int bits, const int rank, const factor *b, int from, int to,
                     const activations *low, float *y) {
  const ptrdiff_t size = (ptrdiff_t)rank * ROWS * bits / 8;
  const lookup tables = tables_of(bits, b->table);
  const lanes scale = all(low->scales[0]), none = all((float)(127 * low->sums[0]));
  const int32_t sum = low->sums[0];
  const float *scales = b->scales;
  int8_t x[MAX_RANK];
  memcpy(x, low->values, (size_t)rank);
  const uint8_t *codes = b->codes + from * size;
  for (int g = from; g < to; g++, codes += size) {
    for (ptrdiff_t line = 0; line < size; line += 64) __builtin_prefetch(codes + LIFTED + line);
    sums acc = start(bits, sum);
    UNROLL for (int r = 0; r < rank; r += RANK_BITS / bits)
      UNROLL for (int v = 0; v < 8 / bits; v++)
        acc = dot(bits, acc, vector_of(bits, codes + r * ROWS * bits / 8, v, &tables),
                  x + r + v * 4);
    float *out = y + (ptrdiff_t)g * ROWS;
    lanes found = whole(acc);
    if (bits == 4) found = subtract(add(found, found), none);
    store(out, add(load(out), times(times(found, all(scales[g])), scale)));
  }
}

INLINE void lift_groups(const int bits, const factor *b, int from, int to, const activations *low,
                        int vectors, float *y, ptrdiff_t y_stride) {
  const ptrdiff_t size = (ptrdiff_t)b->rank * ROWS * bits / 8;
  if (vectors == 1 && b->rank == 16) { /* the usual rank */
    lift_one(bits, 16, b, from, to, low, y);
    return;
  }
  for (int g = from; g < to; g++) {
    const uint8_t *next = b->codes + g * size + LIFTED;
    for (ptrdiff_t line = 0; line < size; line += 64) __builtin_prefetch(next + line);
    int t = 0;
    for (; t + MANY <= vectors; t += MANY) lift_group(bits, MANY, b, g, low, t, y, y_stride);
    for (; t + SOME <= vectors; t += SOME) lift_group(bits, SOME, b, g, low, t, y, y_stride);
    for (; t < vectors; t++) lift_group(bits, 1, b, g, low, t, y, y_stride);
  }
}

static void lift(const factor *b, int from, int to, const activations *low, int vectors, float *y,
                 ptrdiff_t y_stride) {
  if (b->bits == 4) lift_groups(4, b, from, to, low, vectors, y, y_stride);
  else lift_groups(8, b, from, to, low, vectors, y, y_stride);
}

const kernels KERNELS = {NAME, multiply, quantize, norm, turn, store_key, store_value,
                         attend, gate, nats, lift};
