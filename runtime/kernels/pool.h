/* A pool of threads that works on one thing at a time, and a barrier within it. */
#ifndef CIDER_POOL_H
#define CIDER_POOL_H

typedef struct pool pool;

/* `threads` counts the caller; NULL if they cannot be had. */
pool *pool_new(int threads);
void pool_free(pool *p);
int pool_threads(const pool *p);

/* Call work(argument, 0 .. threads - 1), the first in the caller; returns when all are done. */
void pool_run(pool *p, void (*work)(void *, int), void *argument);

/* Within work, a barrier in two parts, for what can be done in between: the first says that a thread
 * has come, the second waits for all. No other barrier may lie between them. */
unsigned pool_arrive(pool *p);
void pool_wait(pool *p, unsigned ticket);

/* Within work: go on when all threads have come here. */
void pool_barrier(pool *p);

#endif
