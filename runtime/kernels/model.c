/* A whole model: one call takes tokens, of one or of many sequences, through all layers.
 *
 * What a token becomes depends on its own sequence alone, never on what else is in the call or on
 * the number of threads: products are of whole numbers, and all else is computed for each token, or
 * for each query, by itself. */
#define _POSIX_C_SOURCE 200809L
#include "cider.h"
#include "pool.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
  int32_t heads, kv_heads, hidden, unused;
  const float *attention_norm, *q_norm, *k_norm, *ffn_norm;
  matrix q, k, v, o, gate, up, down;
} layer;

typedef struct {
  int32_t vocabulary, width, head, layers;
  float norm_eps, query_factor;
  int32_t cache_bits, unused;
  const float *norm;
  matrix embedding;
  const layer *layer;
} model;

/* Linear maps of a layer, in their order, and the inputs that they have: of input i those from
 * MAPS_OF[i] up to MAPS_OF[i + 1]. */
enum { Q, K, V, O, GATE, UP, DOWN, MAPS };
enum { TO_QKV, TO_O, TO_FFN, TO_DOWN, INPUTS, NO_INPUT = INPUTS };
static const int MAPS_OF[INPUTS + 1] = {Q, O, GATE, DOWN, MAPS};
enum { TOGETHER = 3, MAX_LOW = TOGETHER * MAX_RANK };

/* What an adapter adds in a layer: B (A x). `a` has the ranks of all maps of an input, of 8 bits or
 * 4, and no rows where there are none. Of 4 bits each rank has a scale of its own in `ranks`. */
typedef struct {
  matrix a[INPUTS];
  const float *ranks[INPUTS];
  factor b[MAPS];
} adapted;

/* Tokens that one call takes. All arrays have `tokens` rows unless told otherwise. */
typedef struct {
  int32_t tokens;
  int32_t outputs;                     /* rows of `logits` */
  const int32_t *ids, *positions;
  uint8_t *const *const *blocks;       /* for each token the blocks of its sequence's cache */
  const float *cos, *sin;              /* (positions, head / 2) */
  const int32_t *output_rows;          /* (outputs): which tokens' logits are wanted */
  float *logits;                       /* (outputs, rows of the embedding) */
  float *hidden;                       /* (tokens, width) after the last norm, or NULL */
  const int32_t *targets;              /* the token that follows each, or -1; or NULL */
  float *nats;
  uint8_t *first;                      /* whether the target was the likeliest */
  /* For each token its adapter, (layers), or NULL for none; or NULL if no token has one. */
  const adapted *const *adapters;
} job;

/* Tokens whose logits are held at a time when they are only scored. */
enum { SCORED = 48 };

/* Tokens that are multiplied at a time, and outputs of all of them in groups of rows. */
enum { CHUNK = 12, PIECE = 256 };

/* Bytes of an adapter's factor that are fetched before it is its turn, and groups of rows of a matrix
 * that are multiplied meanwhile. */
enum { HEAD = 8192, LAST = 8 };

typedef struct { int begin, count; } run; /* tokens that follow each other in one sequence */

typedef struct {
  const model *model;
  const kernels *kernels;
  pool *pool;
  int capacity, widest, hidden, queries, keys, positions;
  float *x, *q, *k, *v, *mixed, *gate, *up, *normed;
  float *low;                          /* a thread: (CHUNK, MAX_LOW), A x of the adapters */
  activations lows[TOGETHER];          /* the same, quantized, of each map of an input */
  activations *own_lows;               /* a thread: (TOGETHER), of one token */
  activations shared, *own;            /* quantized inputs: of all, and one a thread */
  float *scores;                       /* a thread: (MAX_QUERIES, positions) */
  float *scored;                       /* (SCORED, rows of the embedding) */
  run *runs;
  int run_count;
  int32_t *target_rows;
  int target_count;
  const job *job;
} engine;

static void *room(size_t count, size_t size) {
  void *found = NULL;
  if (size && count > SIZE_MAX / 2 / size) return NULL;
  return posix_memalign(&found, 64, count * size + 64) ? NULL : found;
}

static int activations_room(activations *a, int vectors, int width) {
  a->stride = (width + 63) / 64 * 64;
  a->values = room((size_t)vectors * (size_t)a->stride, 1);
  a->scales = room((size_t)vectors, sizeof(float));
  a->sums = room((size_t)vectors, sizeof(int32_t));
  return a->values && a->scales && a->sums;
}

static void activations_free(activations *a) {
  free(a->values);
  free(a->scales);
  free(a->sums);
}

void cider_engine_free(engine *e) {
  if (!e) return;
  activations_free(&e->shared);
  for (int i = 0; i < TOGETHER; i++) activations_free(&e->lows[i]);
  if (e->own && e->own_lows && e->pool) {
    const int threads = pool_threads(e->pool);
    for (int i = 0; i < threads; i++) activations_free(&e->own[i]);
    for (int i = 0; i < threads * TOGETHER; i++) activations_free(&e->own_lows[i]);
  }
  free(e->own);
  free(e->own_lows);
  pool_free(e->pool);
  float *const arrays[] = {e->x, e->q, e->k, e->v, e->mixed, e->gate, e->up, e->normed, e->low,
                           e->scores, e->scored};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]);
  free(e->runs);
  free(e->target_rows);
  free(e);
}

/* An engine for calls of up to `capacity` tokens at positions below `positions`; NULL if there is
 * no memory, no thread, or no such set of kernels. The model must outlive it. */
engine *cider_engine(const model *m, int threads, int capacity, int positions, const char *set) {
  engine *e = calloc(1, sizeof *e);
  if (!e) return NULL;
  e->model = m;
  e->kernels = cider_kernels(set);
  e->pool = pool_new(threads);
  e->capacity = capacity;
  e->positions = (positions + ROWS - 1) / ROWS * ROWS;
  for (int i = 0; i < m->layers; i++) {
    const layer *l = &m->layer[i];
    if (l->hidden > e->hidden) e->hidden = l->hidden;
    if (l->heads * m->head > e->queries) e->queries = l->heads * m->head;
    if (l->kv_heads * m->head > e->keys) e->keys = l->kv_heads * m->head;
  }
  e->widest = m->width > e->hidden ? m->width : e->hidden;
  if (e->queries > e->widest) e->widest = e->queries;
  const size_t n = (size_t)capacity;
  e->x = room(n * (size_t)m->width, sizeof(float));
  e->q = room(n * (size_t)e->queries, sizeof(float));
  e->k = room(n * (size_t)e->keys, sizeof(float));
  e->v = room(n * (size_t)e->keys, sizeof(float));
  e->mixed = room(n * (size_t)e->queries, sizeof(float));
  e->gate = room(n * (size_t)e->hidden, sizeof(float));
  e->up = room(n * (size_t)e->hidden, sizeof(float));
  e->normed = room((size_t)threads * (size_t)m->width, sizeof(float));
  e->low = room((size_t)threads * CHUNK * MAX_LOW, sizeof(float));
  e->scores = room((size_t)threads * MAX_QUERIES * (size_t)e->positions, sizeof(float));
  e->scored = room((size_t)SCORED * (size_t)m->embedding.rows, sizeof(float));
  e->runs = room(n, sizeof(run));
  e->target_rows = room(n, sizeof(int32_t));
  e->own = calloc((size_t)threads, sizeof *e->own);
  e->own_lows = calloc((size_t)threads * TOGETHER, sizeof *e->own_lows);
  int good = e->kernels && e->pool && e->x && e->q && e->k && e->v && e->mixed && e->gate &&
             e->up && e->normed && e->low && e->scores && e->scored && e->runs &&
             e->target_rows && e->own && e->own_lows &&
             activations_room(&e->shared, capacity, e->widest);
  for (int i = 0; good && i < threads; i++) good = activations_room(&e->own[i], 1, e->widest);
  for (int i = 0; good && i < TOGETHER; i++)
    good = activations_room(&e->lows[i], capacity, MAX_RANK);
  for (int i = 0; good && i < threads * TOGETHER; i++)
    good = activations_room(&e->own_lows[i], 1, MAX_RANK);
  if (!good) {
    cider_engine_free(e);
    return NULL;
  }
  return e;
}

const char *cider_engine_kernels(const engine *e) { return e->kernels->name; }

/* The part of 0 .. n that is a thread's. */
static void share(int n, int thread, int threads, int *from, int *to) {
  *from = (int)((int64_t)n * thread / threads);
  *to = (int)((int64_t)n * (thread + 1) / threads);
}

typedef struct { int from, to; } range;

/* What one thread carries through the phases. */
typedef struct {
  engine *e;
  const model *m;
  const kernels *k;
  const job *job;
  int thread, threads;
  int layer;
} worker;

/* What a token's adapter adds to the maps of an input in this layer, or NULL. */
static const adapted *adapter_of(const worker *w, int t, int input) {
  const adapted *const *all = w->job->adapters;
  const adapted *own = all && input != NO_INPUT && all[t] ? &all[t][w->layer] : NULL;
  return own && own->a[input].rows ? own : NULL;
}

/* Tokens from `t` on, below `end`, that have the adapter of `t`. */
static int alike(const worker *w, int t, int end) {
  int next = t + 1;
  while (next < end && w->job->adapters[next] == w->job->adapters[t]) next++;
  return next - t;
}

/* Some of `x`, from a token on. */
static activations from_token(const activations *x, int t) {
  return (activations){x->values + t * x->stride, x->stride, x->scales + t, x->sums + t};
}

/* Quantize A x of one token, for each map of an input by itself, as token `t` of `to`. */
static void quantize_low(const worker *w, const adapted *own, int input, const float *low,
                         activations *to, int t) {
  const int first = MAPS_OF[input];
  for (int map = first; map < MAPS_OF[input + 1]; map++) {
    const factor *b = &own->b[map];
    activations *x = &to[map - first];
    const float *scales = own->ranks[input] ? own->ranks[input] + b->first : NULL;
    float filled[MAX_RANK];
    const int lanes = (b->rank + 15) / 16 * 16;
    for (int i = 0; i < b->rank; i++) filled[i] = low[b->first + i] * (scales ? scales[i] : 1.0f);
    for (int i = b->rank; i < lanes; i++) filled[i] = 0;
    w->k->quantize(filled, lanes, x->values + t * x->stride, &x->scales[t], &x->sums[t]);
  }
}

/* What a thread is about to read, of a matrix that begins where nothing was read before. */
static void fetch(const uint8_t *at, ptrdiff_t size) {
  for (ptrdiff_t line = 0; line < size && line < HEAD; line += 64)
    __builtin_prefetch(at + line, 0, 2);
}

static void fetch_inner(const adapted *own, int input) {
  if (!own) return;
  const matrix *a = &own->a[input];
  fetch(a->codes, (ptrdiff_t)a->rows * a->columns * a->bits / 8);
  fetch((const uint8_t *)a->affine, (ptrdiff_t)a->rows * 4);
}

static void fetch_outer(const factor *b, range r) {
  const ptrdiff_t group = (ptrdiff_t)b->rank * ROWS * b->bits / 8;
  if (!b->rank) return;
  fetch(b->codes + r.from * group, (r.to - r.from) * group);
  fetch((const uint8_t *)(b->scales + r.from), (ptrdiff_t)(r.to - r.from + 15) * 4);
}

/* A x of some tokens of many. */
static void reduce(worker *w, const activations *x, int from, int to, int input) {
  engine *e = w->e;
  float *low = e->low + (ptrdiff_t)w->thread * CHUNK * MAX_LOW;
  for (int t = from, count; t < to; t += count) {
    count = alike(w, t, to - t > CHUNK ? t + CHUNK : to);
    const adapted *own = adapter_of(w, t, input);
    if (t + count < to) fetch_inner(adapter_of(w, t + count, input), input);
    if (!own) continue;
    const matrix *a = &own->a[input];
    const activations some = from_token(x, t);
    w->k->multiply(a, 0, a->rows / ROWS, &some, count, low, a->rows, 0);
    for (int i = 0; i < count; i++)
      quantize_low(w, own, input, low + (ptrdiff_t)i * a->rows, e->lows, t + i);
  }
}

/* Quantize rows of `from`, after a norm if there is one, for the maps of an input. One row is done
 * by every thread for itself, which costs less than to wait for another; of many each does its share
 * and what adapters make of it. */
static const activations *prepare(worker *w, const float *from, ptrdiff_t stride, int n, int rows,
                                  const int32_t *chosen, const float *norm_scale, int input) {
  engine *e = w->e;
  activations *to = rows == 1 ? &e->own[w->thread] : &e->shared;
  float *normed = e->normed + (ptrdiff_t)w->thread * w->m->width;
  int begin = 0, end = 1;
  if (rows != 1) share(rows, w->thread, w->threads, &begin, &end);
  for (int t = begin; t < end; t++) {
    const float *x = from + (chosen ? chosen[t] : t) * stride;
    if (norm_scale) {
      w->k->norm(x, norm_scale, w->m->norm_eps, n, normed);
      x = normed;
    }
    w->k->quantize(x, n, to->values + t * to->stride, &to->scales[t], &to->sums[t]);
  }
  if (rows == 1) return to;
  if (w->job->adapters && input != NO_INPUT) reduce(w, to, begin, end, input);
  pool_barrier(e->pool);
  return to;
}

/* Matrices that have one input. Each thread takes some groups of their rows: the same of all if they
 * are `paired`, else some of the matrices one after the other. */
typedef struct {
  int count, paired, add, input;
  const matrix *w[TOGETHER];
  float *out[TOGETHER];
} products;

/* A thread's share of parts of several groups, each of the same cost; what is before them counts. */
static range share_of(int groups, int64_t cost, int64_t before, int64_t begin, int64_t end) {
  const int64_t from = (begin - before + cost - 1) / cost, to = (end - before + cost - 1) / cost;
  range r = {from < 0 ? 0 : from > groups ? groups : (int)from,
             to < 0 ? 0 : to > groups ? groups : (int)to};
  return r;
}

/* Deal out the bytes that are read, so that threads end together: `ranges` of the matrices, and of A
 * of an adapter if there is one. */
static range deal(const worker *w, const products *p, const adapted *own, range *ranges) {
  const matrix *a = own ? &own->a[p->input] : NULL;
  int64_t cost[TOGETHER + 1], before = 0, total = 0;
  int groups[TOGETHER + 1];
  cost[0] = a ? (int64_t)a->columns * a->bits / 8 : 1;
  groups[0] = a ? a->rows / ROWS : 0;
  for (int i = 0; i < p->count; i++) {
    cost[i + 1] = (int64_t)p->w[i]->columns * p->w[i]->bits / 8;
    const factor *b = own ? &own->b[MAPS_OF[p->input] + i] : NULL;
    if (b) cost[i + 1] += b->rank * b->bits / 8;
    groups[i + 1] = p->w[i]->rows / ROWS;
  }
  int parts = p->count + 1;
  if (p->paired)
    for (; parts > 2; parts--) cost[1] += cost[parts - 1];
  for (int i = 0; i < parts; i++) total += cost[i] * groups[i];
  const int64_t begin = total * w->thread / w->threads, end = total * (w->thread + 1) / w->threads;
  range first = {0, 0};
  for (int i = 0; i < parts; i++) {
    const range r = share_of(groups[i], cost[i], before, begin, end);
    before += cost[i] * groups[i];
    if (i == 0) first = r;
    else ranges[i - 1] = r;
  }
  for (int i = 1; p->paired && i < p->count; i++) ranges[i] = ranges[0];
  return first;
}

/* Add what the adapters of some tokens give to some groups of rows. */
static void expand(worker *w, const products *p, int i, range r, const activations *low, int from,
                   int to) {
  if (!w->job->adapters || p->input == NO_INPUT) return;
  const int map = MAPS_OF[p->input] + i, rows = p->w[i]->rows;
  for (int t = from, count; t < to; t += count) {
    count = alike(w, t, to);
    const adapted *own = adapter_of(w, t, p->input);
    const adapted *next = t + count < to ? adapter_of(w, t + count, p->input) : NULL;
    if (next) fetch_outer(&next->b[map], r);
    if (!own || !own->b[map].rank) continue;
    const activations some = from_token(&low[i], t);
    w->k->lift(&own->b[map], r.from, r.to, &some, count, p->out[i] + (ptrdiff_t)t * rows, rows);
  }
}

/* One token: A x is shared out like the matrices, and waited for when these are done. */
static void multiply_one(worker *w, const products *p, const activations *x, range *ranges) {
  const adapted *own = adapter_of(w, 0, p->input);
  const range first = deal(w, p, own, ranges);
  unsigned ticket = 0;
  if (own) {
    if (first.from < first.to)
      w->k->multiply(&own->a[p->input], first.from, first.to, x, 1, w->e->low, 0, 0);
    ticket = pool_arrive(w->e->pool);
  }
  for (int i = 0; i < p->count; i++) {
    range r = ranges[i];
    if (own && i == p->count - 1) {
      const range before = {r.from, r.to - LAST > r.from ? r.to - LAST : r.from};
      if (before.from < before.to)
        w->k->multiply(p->w[i], before.from, before.to, x, 1, p->out[i], 0, p->add);
      for (int j = 0; j < p->count; j++)
        fetch_outer(&own->b[MAPS_OF[p->input] + j], ranges[j]);
      r.from = before.to;
    }
    if (r.from < r.to) w->k->multiply(p->w[i], r.from, r.to, x, 1, p->out[i], 0, p->add);
  }
  if (!own) return;
  pool_wait(w->e->pool, ticket);
  if (p->input + 1 < INPUTS && !w->thread) fetch_inner(own, p->input + 1);
  activations *low = w->e->own_lows + w->thread * TOGETHER;
  quantize_low(w, own, p->input, w->e->low, low, 0);
  for (int i = 0; i < p->count; i++) expand(w, p, i, ranges[i], low, 0, 1);
}

/* Many tokens, in pieces of which inputs and outputs stay in the nearest cache. */
static void multiply_many(worker *w, const products *p, int i, range all, const activations *x,
                             int vectors) {
  const int rows = p->w[i]->rows, chunk = vectors < CHUNK ? vectors : CHUNK;
  const int step = PIECE / chunk;
  for (int g = all.from; g < all.to; g += step) {
    const range r = {g, g + step < all.to ? g + step : all.to};
    for (int t = 0; t < vectors; t += CHUNK) {
      const int count = vectors - t < CHUNK ? vectors - t : CHUNK;
      const activations some = from_token(x, t);
      w->k->multiply(p->w[i], r.from, r.to, &some, count, p->out[i] + (ptrdiff_t)t * rows, rows,
                     p->add);
      expand(w, p, i, r, w->e->lows, t, t + count);
    }
  }
}

/* This thread's share of some products; which groups of rows of the last matrix it did. */
static range multiply(worker *w, const products *p, const activations *x, int vectors) {
  range ranges[TOGETHER];
  if (vectors == 1) {
    multiply_one(w, p, x, ranges);
    return ranges[p->count - 1];
  }
  deal(w, p, NULL, ranges);
  for (int i = 0; i < p->count; i++) multiply_many(w, p, i, ranges[i], x, vectors);
  return ranges[p->count - 1];
}

/* Keys and values of one token and one key-value head into the cache, and its queries turned. */
static void turn(worker *w, const layer *l, size_t place, int t, int kv) {
  const model *m = w->m;
  const engine *e = w->e;
  const int head = m->head, position = w->job->positions[t], each = l->heads / l->kv_heads;
  const float *cos = w->job->cos + (ptrdiff_t)position * head / 2;
  const float *sin = w->job->sin + (ptrdiff_t)position * head / 2;
  const size_t part = cache_part(head, m->cache_bits);
  uint8_t *block = w->job->blocks[t][position / BLOCK] + place + (size_t)kv * 2 * part;
  float *key = e->k + ((ptrdiff_t)t * l->kv_heads + kv) * head;
  w->k->turn(key, l->k_norm, m->norm_eps, cos, sin, head, 1.0f);
  w->k->store_key(key, head, m->cache_bits, block, position % BLOCK);
  w->k->store_value(e->v + ((ptrdiff_t)t * l->kv_heads + kv) * head, head, m->cache_bits,
                    block + part, position % BLOCK);
  for (int i = 0; i < each; i++)
    w->k->turn(e->q + ((ptrdiff_t)t * l->heads + kv * each + i) * head, l->q_norm, m->norm_eps,
               cos, sin, head, m->query_factor);
}

/* Some tokens that follow each other attend with the queries of one key-value head. */
static void attend(worker *w, const layer *l, size_t place, run tokens, int kv) {
  const engine *e = w->e;
  const int head = w->m->head, each = l->heads / l->kv_heads;
  const size_t part = cache_part(head, w->m->cache_bits);
  attention a = {.head = head, .bits = w->m->cache_bits};
  a.blocks = (const uint8_t *const *)w->job->blocks[tokens.begin];
  a.keys = place + (size_t)kv * 2 * part;
  a.values = a.keys + part;
  a.scores = e->scores + (ptrdiff_t)w->thread * MAX_QUERIES * e->positions;
  a.stride = e->positions;
  for (int t = tokens.begin; t < tokens.begin + tokens.count; t++)
    for (int i = 0; i < each; i++) {
      const ptrdiff_t at = ((ptrdiff_t)t * l->heads + kv * each + i) * head;
      a.query[a.count] = e->q + at;
      a.out[a.count] = e->mixed + at;
      a.limit[a.count] = w->job->positions[t] + 1;
      if (++a.count == MAX_QUERIES) {
        w->k->attend(&a);
        a.count = 0;
      }
    }
  if (a.count) w->k->attend(&a);
}

static void attention_block(worker *w, const layer *l, size_t place) {
  engine *e = w->e;
  const int tokens = w->job->tokens, width = w->m->width, queries = l->heads * w->m->head;
  const activations *x = prepare(w, e->x, width, width, tokens, NULL, l->attention_norm, TO_QKV);
  const products inputs = {3, 0, 0, TO_QKV, {&l->q, &l->k, &l->v}, {e->q, e->k, e->v}};
  multiply(w, &inputs, x, tokens);
  pool_barrier(e->pool);
  /* Units are dealt out in turn: later ones see more keys. */
  for (int u = w->thread; u < tokens * l->kv_heads; u += w->threads)
    turn(w, l, place, u / l->kv_heads, u % l->kv_heads);
  if (tokens > 1) pool_barrier(e->pool); /* one token: a thread reads the heads that it wrote */
  for (int u = w->thread; u < e->run_count * l->kv_heads; u += w->threads)
    attend(w, l, place, e->runs[u / l->kv_heads], u % l->kv_heads);
  pool_barrier(e->pool);
  x = prepare(w, e->mixed, queries, queries, tokens, NULL, NULL, TO_O);
  const products output = {1, 0, 1, TO_O, {&l->o}, {e->x}};
  multiply(w, &output, x, tokens);
  pool_barrier(e->pool);
}

static void ffn_block(worker *w, const layer *l) {
  engine *e = w->e;
  const int tokens = w->job->tokens, width = w->m->width;
  const activations *x = prepare(w, e->x, width, width, tokens, NULL, l->ffn_norm, TO_FFN);
  const products inputs = {2, 1, 0, TO_FFN, {&l->gate, &l->up}, {e->gate, e->up}};
  const range r = multiply(w, &inputs, x, tokens);
  for (int t = 0; t < tokens; t++) {
    const ptrdiff_t at = (ptrdiff_t)t * l->hidden + r.from * ROWS;
    w->k->gate(e->gate + at, e->up + at, (r.to - r.from) * ROWS);
  }
  pool_barrier(e->pool);
  x = prepare(w, e->gate, l->hidden, l->hidden, tokens, NULL, NULL, TO_DOWN);
  const products output = {1, 0, 1, TO_DOWN, {&l->down}, {e->x}};
  multiply(w, &output, x, tokens);
  pool_barrier(e->pool);
}

static void embed(worker *w) {
  const matrix *m = &w->m->embedding;
  for (int t = w->thread; t < w->job->tokens; t += w->threads) {
    const int id = w->job->ids[t];
    const uint8_t *at = m->codes + (size_t)(id / ROWS) * ROWS * (size_t)m->columns + id % ROWS * 4;
    float *x = w->e->x + (ptrdiff_t)t * m->columns;
    for (int c = 0; c < m->columns; c++)
      x[c] = (float)(int8_t)at[c / 4 * 64 + c % 4] * m->affine[id];
  }
  pool_barrier(w->e->pool);
}

/* Logits of chosen tokens to `out`; threads have written theirs when this returns. */
static void output(worker *w, const int32_t *rows, int count, float *out) {
  const int width = w->m->width;
  const activations *x = prepare(w, w->e->x, width, width, count, rows, w->m->norm, NO_INPUT);
  const products logits = {1, 0, 0, NO_INPUT, {&w->m->embedding}, {out}};
  multiply(w, &logits, x, count);
  pool_barrier(w->e->pool);
}

static void outputs(worker *w) {
  const job *job = w->job;
  engine *e = w->e;
  const int width = w->m->width, rows = w->m->embedding.rows;
  if (job->hidden)
    for (int t = w->thread; t < job->tokens; t += w->threads)
      w->k->norm(e->x + (ptrdiff_t)t * width, w->m->norm, w->m->norm_eps, width,
                 job->hidden + (ptrdiff_t)t * width);
  if (job->outputs) output(w, job->output_rows, job->outputs, job->logits);
  for (int done = 0; done < e->target_count; done += SCORED) {
    const int left = e->target_count - done, count = left < SCORED ? left : SCORED;
    output(w, e->target_rows + done, count, e->scored);
    for (int i = w->thread; i < count; i += w->threads) {
      const int t = e->target_rows[done + i];
      job->nats[t] = w->k->nats(e->scored + (ptrdiff_t)i * rows, w->m->vocabulary,
                                job->targets[t], &job->first[t]);
    }
    pool_barrier(e->pool);
  }
}

static void work(void *given, int thread) {
  engine *e = given;
  worker w = {e, e->model, e->kernels, e->job, thread, pool_threads(e->pool), 0};
  size_t place = 0; /* of a layer in a block of the cache */
  embed(&w);
  for (int i = 0; i < e->model->layers; i++) {
    const layer *l = &e->model->layer[i];
    w.layer = i;
    attention_block(&w, l, place);
    ffn_block(&w, l);
    place += (size_t)l->kv_heads * 2 * cache_part(e->model->head, e->model->cache_bits);
  }
  outputs(&w);
}

/* Tokens of one sequence that follow each other share what is read of its cache. */
static void find_runs(engine *e, const job *job) {
  e->run_count = 0;
  for (int t = 0; t < job->tokens; t++) {
    run *last = e->run_count ? &e->runs[e->run_count - 1] : NULL;
    if (last && last->count < 8 && job->blocks[t] == job->blocks[last->begin] &&
        job->positions[t] == job->positions[t - 1] + 1)
      last->count++;
    else
      e->runs[e->run_count++] = (run){t, 1};
  }
}

/* Whether all that is read of an adapter, and written, lies where there is room for it. */
static int fits(const model *m, const adapted *adapter) {
  for (int n = 0; adapter && n < m->layers; n++) {
    const layer *l = &m->layer[n];
    const int columns[INPUTS] = {m->width, l->heads * m->head, m->width, l->hidden};
    for (int i = 0; i < INPUTS; i++) {
      const matrix *a = &adapter[n].a[i];
      if (a->rows < 0 || a->rows > MAX_LOW || a->rows % ROWS) return 0;
      if (a->rows && a->columns != columns[i]) return 0;
      if (a->rows && a->bits != 8 && (a->bits != 4 || !adapter[n].ranks[i])) return 0;
      for (int map = MAPS_OF[i]; map < MAPS_OF[i + 1]; map++) {
        const factor *b = &adapter[n].b[map];
        if (b->rank && b->bits != 8 && b->bits != 4) return 0;
        if (b->rank < 0 || b->rank > MAX_RANK || b->rank * b->bits % RANK_BITS) return 0;
        if (b->first < 0 || b->first > a->rows - b->rank) return 0;
      }
    }
  }
  return 1;
}

/* Take tokens through the model. Returns 0, or 1 if the job does not fit: too many tokens, a token,
 * a position or an adapter's ranks out of bounds. Tokens of one sequence stand in order, next to
 * each other. */
int cider_forward(engine *e, const job *job) {
  if (job->tokens < 1 || job->tokens > e->capacity || job->outputs < 0 ||
      job->outputs > job->tokens)
    return 1;
  for (int t = 0; t < job->tokens; t++) {
    if (job->ids[t] < 0 || job->ids[t] >= e->model->vocabulary) return 1;
    if (job->positions[t] < 0 || job->positions[t] >= e->positions) return 1;
    if (job->adapters && (!t || job->adapters[t] != job->adapters[t - 1]) &&
        !fits(e->model, job->adapters[t]))
      return 1;
  }
  for (int i = 0; i < job->outputs; i++)
    if (job->output_rows[i] < 0 || job->output_rows[i] >= job->tokens) return 1;
  e->target_count = 0;
  for (int t = 0; job->targets && t < job->tokens; t++) {
    if (job->targets[t] >= e->model->vocabulary) return 1;
    if (job->targets[t] >= 0) e->target_rows[e->target_count++] = t;
  }
  find_runs(e, job);
  e->job = job;
  pool_run(e->pool, work, e);
  return 0;
}
