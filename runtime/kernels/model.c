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

/* Linear maps of a layer, in their order; those that have one input stand together. */
enum { Q, K, V, O, GATE, UP, DOWN, MAPS, NONE = MAPS };
enum { TOGETHER = 3 };

/* What an adapter adds to one map: scale * B (A x). Rank 0: nothing. */
typedef struct {
  int32_t rank; /* a multiple of RANKS */
  float scale;
  const uint16_t *a, *b; /* as `lower` and `lift` of cider.h take them */
} factors;

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
  /* For each token its adapter, (layers, MAPS), or NULL for none; or NULL if no token has one. */
  const factors *const *adapters;
} job;

/* Tokens whose logits are held at a time when they are only scored. */
enum { SCORED = 48 };

typedef struct { int begin, count; } run; /* tokens that follow each other in one sequence */

typedef struct {
  const model *model;
  const kernels *kernels;
  pool *pool;
  int capacity, widest, hidden, queries, keys, positions;
  float *x, *q, *k, *v, *mixed, *gate, *up, *normed;
  float *low;                          /* (capacity, TOGETHER, MAX_RANK): A x of the adapters */
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
  if (e->own && e->pool)
    for (int i = 0; i < pool_threads(e->pool); i++) activations_free(&e->own[i]);
  free(e->own);
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
  e->low = room(n * TOGETHER * MAX_RANK, sizeof(float));
  e->scores = room((size_t)threads * MAX_QUERIES * (size_t)e->positions, sizeof(float));
  e->scored = room((size_t)SCORED * (size_t)m->embedding.rows, sizeof(float));
  e->runs = room(n, sizeof(run));
  e->target_rows = room(n, sizeof(int32_t));
  e->own = calloc((size_t)threads, sizeof *e->own);
  int good = e->kernels && e->pool && e->x && e->q && e->k && e->v && e->mixed && e->gate &&
             e->up && e->normed && e->low && e->scores && e->scored && e->runs && e->target_rows && e->own &&
             activations_room(&e->shared, capacity, e->widest);
  for (int i = 0; good && i < threads; i++) good = activations_room(&e->own[i], 1, e->widest);
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

/* What one thread carries through the phases. */
typedef struct {
  engine *e;
  const model *m;
  const kernels *k;
  const job *job;
  int thread, threads;
  int layer;
} worker;

/* What a token's adapter adds to a map of this layer, or NULL. */
static const factors *adapter_of(const worker *w, int t, int map) {
  const factors *const *all = w->job->adapters;
  const factors *own = all && all[t] ? &all[t][w->layer * MAPS + map] : NULL;
  return own && own->rank ? own : NULL;
}

static float *low_of(const worker *w, int t, int map, int first) {
  return w->e->low + ((ptrdiff_t)t * TOGETHER + (map - first)) * MAX_RANK;
}

/* A x of a token's adapter for the maps from..to that have this input. Of one token each thread does
 * some ranks; of many a thread does all for its own tokens. */
static void reduce(worker *w, int t, const float *x, int n, int from, int to, int split) {
  for (int map = from; map < to; map++) {
    const factors *own = adapter_of(w, t, map);
    if (!own) continue;
    int begin = 0, end = own->rank / RANKS;
    if (split) share(end, w->thread, w->threads, &begin, &end);
    w->k->lower(own->a, begin * RANKS, end * RANKS, x, n, own->scale, low_of(w, t, map, from));
  }
}

/* Add B (A x) to some groups of rows of a map's outputs. */
static void expand(worker *w, int map, int first, int from, int to, float *out, int rows,
                   int tokens) {
  for (int t = 0; t < tokens; t++) {
    const factors *own = adapter_of(w, t, map);
    if (own)
      w->k->lift(own->b, own->rank, from, to, low_of(w, t, map, first),
                 out + (ptrdiff_t)t * rows);
  }
}

/* Before A x of one token is used: each thread has computed some of it. */
static void wait_for_low(worker *w, int tokens) {
  if (w->job->adapters && tokens == 1) pool_barrier(w->e->pool);
}

/* Quantize rows of `from`, after a norm if there is one, for the maps first..last. One row is done by every thread for itself,
 * which costs less than to wait for another; of many each does its share. */
static const activations *prepare(worker *w, const float *from, ptrdiff_t stride, int n, int rows,
                                  const int32_t *chosen, const float *norm_scale, int first,
                                  int last) {
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
    if (first != NONE) reduce(w, t, x, n, first, last + 1, rows == 1);
  }
  if (rows != 1) pool_barrier(e->pool);
  return to;
}

/* This thread's share of the rows of some matrices that have one input: maps from `first` on. */
static void multiply(worker *w, int count, const matrix *const *matrices, float *const *outs,
                     const activations *x, int vectors, int add, int first) {
  int total = 0, from, to, before = 0;
  for (int i = 0; i < count; i++) total += matrices[i]->rows / ROWS;
  share(total, w->thread, w->threads, &from, &to);
  for (int i = 0; i < count; i++) {
    const int own = matrices[i]->rows / ROWS;
    const int a = from > before ? from - before : 0, b = to < before + own ? to - before : own;
    if (a < b) w->k->multiply(matrices[i], a, b, x, vectors, outs[i], matrices[i]->rows, add);
    before += own;
  }
  if (first == NONE || !w->job->adapters) return;
  wait_for_low(w, vectors);
  before = 0;
  for (int i = 0; i < count; i++) {
    const int own = matrices[i]->rows / ROWS;
    const int a = from > before ? from - before : 0, b = to < before + own ? to - before : own;
    if (a < b) expand(w, first + i, first, a, b, outs[i], matrices[i]->rows, vectors);
    before += own;
  }
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
  const activations *x = prepare(w, e->x, width, width, tokens, NULL, l->attention_norm, Q, V);
  const matrix *const inputs[] = {&l->q, &l->k, &l->v};
  float *const outs[] = {e->q, e->k, e->v};
  multiply(w, 3, inputs, outs, x, tokens, 0, Q);
  pool_barrier(e->pool);
  /* Units are dealt out in turn: later ones see more keys. */
  for (int u = w->thread; u < tokens * l->kv_heads; u += w->threads)
    turn(w, l, place, u / l->kv_heads, u % l->kv_heads);
  if (tokens > 1) pool_barrier(e->pool); /* one token: a thread reads the heads that it wrote */
  for (int u = w->thread; u < e->run_count * l->kv_heads; u += w->threads)
    attend(w, l, place, e->runs[u / l->kv_heads], u % l->kv_heads);
  pool_barrier(e->pool);
  x = prepare(w, e->mixed, queries, queries, tokens, NULL, NULL, O, O);
  const matrix *const output[] = {&l->o};
  multiply(w, 1, output, &e->x, x, tokens, 1, O);
  pool_barrier(e->pool);
}

static void ffn_block(worker *w, const layer *l) {
  engine *e = w->e;
  const int tokens = w->job->tokens, width = w->m->width;
  const activations *x = prepare(w, e->x, width, width, tokens, NULL, l->ffn_norm, GATE, UP);
  int from, to;
  share(l->hidden / ROWS, w->thread, w->threads, &from, &to);
  if (from < to) {
    w->k->multiply(&l->gate, from, to, x, tokens, e->gate, l->hidden, 0);
    w->k->multiply(&l->up, from, to, x, tokens, e->up, l->hidden, 0);
  }
  wait_for_low(w, tokens);
  if (from < to) {
    expand(w, GATE, GATE, from, to, e->gate, l->hidden, tokens);
    expand(w, UP, GATE, from, to, e->up, l->hidden, tokens);
    for (int t = 0; t < tokens; t++) {
      const ptrdiff_t at = (ptrdiff_t)t * l->hidden + from * ROWS;
      w->k->gate(e->gate + at, e->up + at, (to - from) * ROWS);
    }
  }
  pool_barrier(e->pool);
  x = prepare(w, e->gate, l->hidden, l->hidden, tokens, NULL, NULL, DOWN, DOWN);
  const matrix *const output[] = {&l->down};
  multiply(w, 1, output, &e->x, x, tokens, 1, DOWN);
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
  const activations *x = prepare(w, w->e->x, width, width, count, rows, w->m->norm, NONE, NONE);
  const matrix *const embedding[] = {&w->m->embedding};
  multiply(w, 1, embedding, &out, x, count, 0, NONE);
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

static int fits(const model *m, const factors *adapter) {
  for (int i = 0; adapter && i < m->layers * MAPS; i++)
    if (adapter[i].rank < 0 || adapter[i].rank > MAX_RANK || adapter[i].rank % RANKS) return 0;
  return 1;
}

/* Take tokens through the model. Returns 0, or 1 if the job does not fit: too many tokens, a token,
 * a position or an adapter's rank out of bounds. Tokens of one sequence stand in order, next to
 * each other. */
int cider_forward(engine *e, const job *job) {
  if (job->tokens < 1 || job->tokens > e->capacity || job->outputs < 0 ||
      job->outputs > job->tokens)
    return 1;
  for (int t = 0; t < job->tokens; t++) {
    if (job->ids[t] < 0 || job->ids[t] >= e->model->vocabulary) return 1;
    if (job->positions[t] < 0 || job->positions[t] >= e->positions) return 1;
    if (job->adapters && !fits(e->model, job->adapters[t])) return 1;
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
