#include "ops/lookup.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <uv.h>

/* As many threads as asyncio's executor would have, and for how long one
   waits for work. */
#define LOOKUP_MAX_THREADS 32
#define LOOKUP_MORE_THREADS 4
#define LOOKUP_IDLE_NS 10000000000u

typedef struct {
    TwLookup *first, **end;
} LookupList;

struct TwLookups {
    uv_mutex_t lock;
    uv_cond_t work;      /* the queue is not empty, or the loop has left */
    LookupList queue;
    LookupList done;
    int queued;
    int idle;            /* threads that look at the queue by themselves */
    int threads, max_threads;
    int ringing;         /* threads that are about to write to `fd` */
    int fd;              /* an eventfd; -1: closed */
    bool left;           /* by the loop */
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

/* -- one ------------------------------------------------------------------ */

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

/* Here it takes its time. */
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

/* What may fail: the lock, the condition, the descriptor. */
static tw_uverr
lookups_init(TwLookups *pool)
{
    int err = uv_mutex_init(&pool->lock);

    if (err < 0) {
        return err;
    }
    err = uv_cond_init(&pool->work);
    if (err == 0) {
        pool->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (pool->fd >= 0) {
            return 0;
        }
        err = -errno;
        uv_cond_destroy(&pool->work);
    }
    uv_mutex_destroy(&pool->lock);
    return err;
}

tw_uverr
tw_lookups_open(TwLookups **result)
{
    TwLookups *pool = calloc(1, sizeof(*pool));
    tw_uverr err = pool == NULL ? -ENOMEM : lookups_init(pool);

    if (err < 0) {
        free(pool);
        return err;
    }
    list_init(&pool->queue);
    list_init(&pool->done);
    pool->max_threads = lookups_max_threads();
    pool->pid = getpid();
    *result = pool;
    return 0;
}

int
tw_lookups_fd(const TwLookups *pool)
{
    return pool->fd;
}

/* Unlocks.  Nobody comes any more once the loop has left, and the last thread
   has ended. */
static void
lookups_unlock(TwLookups *pool)
{
    bool last = pool->left && pool->threads == 0;

    if (pool->left && pool->ringing == 0 && pool->fd >= 0) {
        close(pool->fd);
        pool->fd = -1;
    }
    uv_mutex_unlock(&pool->lock);
    if (last) {
        uv_cond_destroy(&pool->work);
        uv_mutex_destroy(&pool->lock);
        free(pool);
    }
}

void
tw_lookups_ring(TwLookups *pool)
{
    static const uint64_t one = 1;

    /* It fails only if it is readable anyway. */
    (void)!write(pool->fd, &one, sizeof(one));
}

/* Out of the queue, if it is there. */
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

/* With the lock: the next of the queue, or NULL: end. */
static TwLookup *
thread_next_lock_held(TwLookups *pool)
{
    TwLookup *lookup;
    int waited = 0;

    while (pool->queue.first == NULL) {
        if (pool->left || waited != 0) {
            return NULL;
        }
        pool->idle++;
        waited = uv_cond_timedwait(&pool->work, &pool->lock, LOOKUP_IDLE_NS);
        pool->idle--;
    }
    lookup = pool->queue.first;
    lookups_unqueue_lock_held(pool, lookup);
    return lookup;
}

/* With the lock, which is given away to tell the loop: it would have to wait
   for it at once. */
static void
thread_done_lock_held(TwLookups *pool, TwLookup *lookup)
{
    bool first = pool->done.first == NULL;

    if (pool->left) {
        tw_lookup_free(lookup);
        return;
    }
    list_push(&pool->done, lookup);
    if (first) {
        pool->idle++;
        pool->ringing++;
        uv_mutex_unlock(&pool->lock);
        tw_lookups_ring(pool);
        uv_mutex_lock(&pool->lock);
        pool->ringing--;
        pool->idle--;
    }
}

/* Signals are for the threads of the program, but not those that are errors
   of this one. */
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
    uv_mutex_lock(&pool->lock);
    while ((lookup = thread_next_lock_held(pool)) != NULL) {
        uv_mutex_unlock(&pool->lock);
        lookup_run(lookup);
        uv_mutex_lock(&pool->lock);
        thread_done_lock_held(pool, lookup);
    }
    pool->threads--;
    lookups_unlock(pool);
}

/* -- asking --------------------------------------------------------------- */

/* The thread that was counted is not to be had.  false: there is no other
   one, and nobody will see to the lookup. */
static bool
lookups_no_thread(TwLookups *pool, TwLookup *lookup)
{
    bool alone;

    uv_mutex_lock(&pool->lock);
    alone = --pool->threads == 0 && lookups_unqueue_lock_held(pool, lookup);
    uv_mutex_unlock(&pool->lock);
    return !alone;
}

bool
tw_lookups_ask(TwLookups *pool, TwLookup *lookup)
{
    bool more;

    uv_mutex_lock(&pool->lock);
    list_push(&pool->queue, lookup);
    lookup->queued = true;
    pool->queued++;
    more = pool->queued > pool->idle && pool->threads < pool->max_threads;
    pool->threads += more;
    uv_mutex_unlock(&pool->lock);
    if (!more) {
        uv_cond_signal(&pool->work);
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

    uv_mutex_lock(&pool->lock);
    queued = lookups_unqueue_lock_held(pool, lookup);
    uv_mutex_unlock(&pool->lock);
    return queued;
}

TwLookup *
tw_lookups_take(TwLookups *pool)
{
    TwLookup *first;
    uint64_t count;

    /* First: what is done after it rings again. */
    (void)!read(pool->fd, &count, sizeof(count));
    uv_mutex_lock(&pool->lock);
    first = list_take(&pool->done);
    uv_mutex_unlock(&pool->lock);
    return first;
}

void
tw_lookups_leave(TwLookups *pool)
{
    if (pool->pid != getpid()) {
        close(pool->fd);
        return;
    }
    uv_mutex_lock(&pool->lock);
    list_free(list_take(&pool->queue));
    list_free(list_take(&pool->done));
    pool->queued = 0;
    pool->left = true;
    uv_cond_broadcast(&pool->work);
    lookups_unlock(pool);
}
