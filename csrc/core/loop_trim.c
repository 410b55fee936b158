/* Free memory that only a burst of work needed. */
#include "core/loop.h"

/* The table of watchers must include the highest watched descriptor. */
static void
trim_by_fd(TwLoop *loop)
{
    int used = loop->by_fd_cap, cap = TW_KEEP_SLOTS;
    TwWatcher **table;

    if (TW_LIKELY(used <= TW_KEEP_SLOTS
                  || loop->watcher_count > (uint32_t)used / 8)) {
        return;
    }
    while (used > 0 && loop->by_fd[used - 1] == NULL) {
        used--;
    }
    while (cap < used) {
        cap *= 2;
    }
    if (cap > loop->by_fd_cap / 4) {
        return;
    }
    table = PyMem_RawRealloc(loop->by_fd, (size_t)cap * sizeof(*table));
    if (table != NULL) {
        loop->by_fd = table;
        loop->by_fd_cap = cap;
    }
}

void
tw_loop_trim(TwLoop *loop)
{
    uint32_t watchers = loop->watcher_count + 1;

    tw_ring_trim(&loop->ready);
    tw_heap_trim(&loop->timers);
    tw_vec_trim(&loop->watchers, watchers);
    tw_vec_trim(&loop->writers, 0);
    tw_vec_trim(&loop->changed, watchers);
    tw_vec_trim(&loop->due, 2 * watchers);
    trim_by_fd(loop);
}
