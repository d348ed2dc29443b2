/* Threads wait by spinning for some ten microseconds, then by sleeping: a phase of a token takes
 * less than a wake-up, but a thread that is not running must not be waited for at full speed. */
#define _POSIX_C_SOURCE 200809L
#include "pool.h"

#include <pthread.h>
#include <stdlib.h>

enum { SPINS = 2000 };

/* A number that only rises, and those who wait for it to change. */
typedef struct {
  unsigned count;
  int sleepers;
  pthread_mutex_t mutex;
  pthread_cond_t changed;
} gate;

struct pool {
  int threads, started;
  gate job, turn;     /* a new piece of work; a barrier that has opened */
  int arrived;        /* at the barrier */
  int end;
  void (*work)(void *, int);
  void *argument;
  struct member { pool *pool; pthread_t thread; int number; } *members;
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Wait until the gate's count is not `seen`. */
static void gate_wait(gate *g, unsigned seen) {
  for (int i = 0; i < SPINS; i++) {
    if (__atomic_load_n(&g->count, __ATOMIC_ACQUIRE) != seen) return;
    relax();
  }
  pthread_mutex_lock(&g->mutex);
  /* Announced before the last look, and the opener looks for sleepers after it has counted: one of
   * the two sees the other. */
  __atomic_add_fetch(&g->sleepers, 1, __ATOMIC_SEQ_CST);
  while (__atomic_load_n(&g->count, __ATOMIC_SEQ_CST) == seen)
    pthread_cond_wait(&g->changed, &g->mutex);
  __atomic_sub_fetch(&g->sleepers, 1, __ATOMIC_SEQ_CST);
  pthread_mutex_unlock(&g->mutex);
}

static void gate_open(gate *g) {
  __atomic_add_fetch(&g->count, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&g->sleepers, __ATOMIC_SEQ_CST)) {
    pthread_mutex_lock(&g->mutex);
    pthread_cond_broadcast(&g->changed);
    pthread_mutex_unlock(&g->mutex);
  }
}

static void gate_start(gate *g) {
  g->count = 0;
  g->sleepers = 0;
  pthread_mutex_init(&g->mutex, NULL);
  pthread_cond_init(&g->changed, NULL);
}

static void gate_end(gate *g) {
  pthread_mutex_destroy(&g->mutex);
  pthread_cond_destroy(&g->changed);
}

unsigned pool_arrive(pool *p) {
  if (p->threads == 1) return 0;
  const unsigned seen = __atomic_load_n(&p->turn.count, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&p->arrived, 1, __ATOMIC_ACQ_REL) == p->threads) {
    __atomic_store_n(&p->arrived, 0, __ATOMIC_RELAXED);
    gate_open(&p->turn);
  }
  return seen;
}

void pool_wait(pool *p, unsigned ticket) {
  if (p->threads > 1) gate_wait(&p->turn, ticket);
}

void pool_barrier(pool *p) { pool_wait(p, pool_arrive(p)); }

static void *member_main(void *given) {
  const struct member *self = given;
  pool *p = self->pool;
  for (unsigned seen = 0;; seen++) {
    gate_wait(&p->job, seen);
    if (p->end) return NULL;
    p->work(p->argument, self->number);
    pool_barrier(p);
  }
}

void pool_run(pool *p, void (*work)(void *, int), void *argument) {
  if (p->threads == 1) {
    work(argument, 0);
    return;
  }
  p->work = work;
  p->argument = argument;
  gate_open(&p->job);
  work(argument, 0);
  pool_barrier(p);
}

pool *pool_new(int threads) {
  pool *p = calloc(1, sizeof *p);
  if (!p) return NULL;
  p->threads = threads;
  p->members = calloc((size_t)threads, sizeof *p->members);
  gate_start(&p->job);
  gate_start(&p->turn);
  for (int i = 1; p->members && i < threads; i++) {
    p->members[i] = (struct member){p, 0, i};
    if (pthread_create(&p->members[i].thread, NULL, member_main, &p->members[i])) break;
    p->started++;
  }
  if (!p->members || p->started != threads - 1) {
    pool_free(p);
    return NULL;
  }
  return p;
}

void pool_free(pool *p) {
  if (!p) return;
  p->end = 1;
  gate_open(&p->job);
  for (int i = 1; i <= p->started; i++) pthread_join(p->members[i].thread, NULL);
  gate_end(&p->job);
  gate_end(&p->turn);
  free(p->members);
  free(p);
}

int pool_threads(const pool *p) { return p->threads; }
