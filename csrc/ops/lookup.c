#include "ops/lookup.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "core/wakeup.h"

/* As many threads as asyncio's executor would have, and how long an idle one
   waits for work. */
#define LOOKUP_MAX_THREADS 32
#define LOOKUP_MORE_THREADS 4
#define LOOKUP_IDLE_S 10

typedef struct {
    TwLookup *first, **end;
} LookupList;

struct TwLookups {
    pthread_mutex_t lock;
    pthread_cond_t work; /* there is work, or the loop has detached */
    LookupList queue;
    LookupList done;
    int queued;
    int idle;            /* threads that will look at the queue again */
    int threads, max_threads;
    int waking;          /* threads that are about to wake the loop */
    int wake_write;         /* see core/wakeup.h */
    bool detached;       /* the loop has detached */
    pid_t pid;           /* of the process that has the threads */
};

/* -- lists ---------------------------------------------------------------- */

static void
list_init(LookupList *list)
{
    list->first = NULL;
    list->end = &list->first;
}

static void
list_push(LookupList *list, TwLookup *lookup)
{
    lookup->next = NULL;
    *list->end = lookup;
    list->end = &lookup->next;
}

static TwLookup *
list_take(LookupList *list)
{
    TwLookup *first = list->first;

    list_init(list);
    return first;
}

static void
list_remove(LookupList *list, TwLookup *lookup)
{
    TwLookup **at = &list->first;

    while (*at != lookup) {
        at = &(*at)->next;
    }
    *at = lookup->next;
    if (*at == NULL) {
        list->end = at;
    }
}

static void
list_free(TwLookup *first)
{
    while (first != NULL) {
        TwLookup *next = first->next;
        tw_lookup_free(first);
        first = next;
    }
}

/* -- one lookup ----------------------------------------------------------- */

/* Plain malloc: the threads free them, and Python's own functions may want
   the GIL (tracemalloc). */
TwLookup *
tw_lookup_new(size_t room)
{
    return calloc(1, sizeof(TwLookup) + room);
}

void
tw_lookup_free(TwLookup *lookup)
{
    if (lookup->found != NULL) {
        freeaddrinfo(lookup->found);
    }
    free(lookup);
}

/* This may take long. */
static void
lookup_run(TwLookup *lookup)
{
    errno = 0;
    if (lookup->addr.len > 0) {
        lookup->error = getnameinfo(
            &lookup->addr.u.any, lookup->addr.len, TW_LOOKUP_NAME(lookup),
            NI_MAXHOST, TW_LOOKUP_SERVICE(lookup), NI_MAXSERV, lookup->flags);
    }
    else {
        lookup->error = getaddrinfo(lookup->host, lookup->service,
                                    &lookup->hints, &lookup->found);
    }
    lookup->errnum = errno;
    if (lookup->error != 0) {
        lookup->found = NULL;
    }
}

/* -- the pool ------------------------------------------------------------- */

static int
lookups_max_threads(void)
{
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);

    return cpus < 1 || cpus > LOOKUP_MAX_THREADS - LOOKUP_MORE_THREADS
               ? LOOKUP_MAX_THREADS
               : (int)cpus + LOOKUP_MORE_THREADS;
}

TwLookups *
tw_lookups_open(int wake_write)
{
    TwLookups *pool = calloc(1, sizeof(*pool));

    if (pool != NULL) {
        pthread_mutex_init(&pool->lock, NULL);
        tw_sys_cond_init(&pool->work);
        pool->wake_write = wake_write;
        list_init(&pool->queue);
        list_init(&pool->done);
        pool->max_threads = lookups_max_threads();
        pool->pid = getpid();
    }
    return pool;
}

/* Unlocks.  Frees the pool if the loop has detached and the last thread has
   ended: nobody else can reach it then. */
static void
lookups_unlock(TwLookups *pool)
{
    bool last = pool->detached && pool->threads == 0;

    pthread_mutex_unlock(&pool->lock);
    if (last) {
        pthread_cond_destroy(&pool->work);
        pthread_mutex_destroy(&pool->lock);
        free(pool);
    }
}

/* Remove it from the queue, if it is there. */
static bool
lookups_unqueue_lock_held(TwLookups *pool, TwLookup *lookup)
{
    if (!lookup->queued) {
        return false;
    }
    list_remove(&pool->queue, lookup);
    lookup->queued = false;
    pool->queued--;
    return true;
}

/* -- the threads ---------------------------------------------------------- */

/* Called with the lock: wait for work.  False: there was none in time. */
static bool
thread_wait_lock_held(TwLookups *pool)
{
    struct timespec until;
    int err;

    clock_gettime(TW_SYS_COND_CLOCK, &until);
    until.tv_sec += LOOKUP_IDLE_S;
    pool->idle++;
    err = pthread_cond_timedwait(&pool->work, &pool->lock, &until);
    pool->idle--;
    return err == 0;
}

/* Called with the lock: the next lookup, or NULL: the thread ends. */
static TwLookup *
thread_next_lock_held(TwLookups *pool)
{
    TwLookup *lookup;
    bool longer = true;

    while (pool->queue.first == NULL) {
        if (pool->detached || !longer) {
            return NULL;
        }
        longer = thread_wait_lock_held(pool);
    }
    lookup = pool->queue.first;
    lookups_unqueue_lock_held(pool, lookup);
    return lookup;
}

/* Called with the lock, which is released while the loop is woken: the loop
   needs it at once. */
static void
thread_done_lock_held(TwLookups *pool, TwLookup *lookup)
{
    bool first = pool->done.first == NULL;

    if (pool->detached) {
        tw_lookup_free(lookup);
        return;
    }
    list_push(&pool->done, lookup);
    if (first) {
        pool->idle++;
        pool->waking++;
        pthread_mutex_unlock(&pool->lock);
        tw_wakeup_write(pool->wake_write);
        pthread_mutex_lock(&pool->lock);
        pool->waking--;
        pool->idle--;
    }
}

/* Block the signals, which are meant for the program's threads, except those
   that an error in this thread raises. */
static void
thread_block_signals(void)
{
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT,
                              SIGTRAP, SIGSYS, SIGPROF};
    sigset_t set;

    sigfillset(&set);
    for (size_t i = 0; i < Py_ARRAY_LENGTH(own); i++) {
        sigdelset(&set, own[i]);
    }
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

static void
thread_main(void *arg)
{
    TwLookups *pool = arg;
    TwLookup *lookup;

    thread_block_signals();
    pthread_mutex_lock(&pool->lock);
    while ((lookup = thread_next_lock_held(pool)) != NULL) {
        pthread_mutex_unlock(&pool->lock);
        lookup_run(lookup);
        pthread_mutex_lock(&pool->lock);
        thread_done_lock_held(pool, lookup);
    }
    pool->threads--;
    lookups_unlock(pool);
}

/* -- queueing and withdrawing --------------------------------------------- */

/* The thread that was counted cannot be started.  False: there is no other
   thread for the lookup. */
static bool
lookups_no_thread(TwLookups *pool, TwLookup *lookup)
{
    bool alone;

    pthread_mutex_lock(&pool->lock);
    alone = --pool->threads == 0 && lookups_unqueue_lock_held(pool, lookup);
    pthread_mutex_unlock(&pool->lock);
    return !alone;
}

bool
tw_lookups_ask(TwLookups *pool, TwLookup *lookup)
{
    bool more;

    pthread_mutex_lock(&pool->lock);
    list_push(&pool->queue, lookup);
    lookup->queued = true;
    pool->queued++;
    more = pool->queued > pool->idle && pool->threads < pool->max_threads;
    pool->threads += more;
    pthread_mutex_unlock(&pool->lock);
    if (!more) {
        pthread_cond_signal(&pool->work);
        return true;
    }
    return PyThread_start_new_thread(thread_main, pool)
               != PYTHREAD_INVALID_THREAD_ID
           || lookups_no_thread(pool, lookup);
}

bool
tw_lookups_withdraw(TwLookups *pool, TwLookup *lookup)
{
    bool queued;

    pthread_mutex_lock(&pool->lock);
    queued = lookups_unqueue_lock_held(pool, lookup);
    pthread_mutex_unlock(&pool->lock);
    return queued;
}

int
tw_lookups_waiting(TwLookups *pool)
{
    int waiting;

    pthread_mutex_lock(&pool->lock);
    waiting = pool->queued;
    pthread_mutex_unlock(&pool->lock);
    return waiting;
}

TwLookup *
tw_lookups_collect(TwLookups *pool)
{
    TwLookup *first;

    pthread_mutex_lock(&pool->lock);
    first = list_take(&pool->done);
    pthread_mutex_unlock(&pool->lock);
    return first;
}

void
tw_lookups_detach(TwLookups *pool)
{
    if (pool->pid != getpid()) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    list_free(list_take(&pool->queue));
    list_free(list_take(&pool->done));
    pool->queued = 0;
    pool->detached = true;
    pool->threads++; /* this one: the others must not free the pool */
    while (pool->waking > 0) { /* soon done: it only writes */
        pthread_mutex_unlock(&pool->lock);
        sched_yield();
        pthread_mutex_lock(&pool->lock);
    }
    pool->threads--;
    pthread_cond_broadcast(&pool->work);
    lookups_unlock(pool);
}
