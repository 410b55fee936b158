#include "core/poller.h"

#include <errno.h>
#include <sys/stat.h>

#include "base/errno.h"

#define POLLER_MIN_ROOM 64

const TwPollerOps *const tw_pollers[] = {
#if TW_HAVE_EPOLL
    &tw_poller_epoll,
#endif
#if TW_HAVE_UV
    &tw_poller_uv,
#endif
    NULL,
};

#if !TW_HAVE_UV
const char *
tw_poller_uv_version(void)
{
    return NULL;
}
#endif

static const TwPollerOps *
poller_find(const char *name)
{
    for (int i = 0; tw_pollers[i] != NULL; i++) {
        if (name == NULL || strcmp(name, tw_pollers[i]->name) == 0) {
            return tw_pollers[i];
        }
    }
    PyErr_Format(PyExc_ValueError,
                 "this build of tidewire has no poller '%s' (it has: %s%s%s)",
                 name, tw_pollers[0]->name, tw_pollers[1] ? ", " : "",
                 tw_pollers[1] ? tw_pollers[1]->name : "");
    return NULL;
}

TwPoller *
tw_poller_open(const char *name)
{
    const TwPollerOps *ops = poller_find(name);
    TwPoller *poller;

    if (ops == NULL) {
        return NULL;
    }
    poller = ops->open();
    if (poller == NULL) {
        tw_errno_raise(-errno);
        return NULL;
    }
    poller->ops = ops;
    if (!tw_poller_make_room(poller, POLLER_MIN_ROOM)) {
        ops->close(poller, true);
        PyErr_NoMemory();
        return NULL;
    }
    return poller;
}

bool
tw_poller_make_room(TwPoller *poller, int n)
{
    int room = poller->room ? poller->room : POLLER_MIN_ROOM;
    TwReady *ready;

    if (n <= poller->room) {
        return true;
    }
    while (room < n) {
        room *= 2;
    }
    ready = PyMem_RawRealloc(poller->ready, (size_t)room * sizeof(*ready));
    if (ready == NULL) {
        return false;
    }
    poller->ready = ready;
    poller->room = room;
    return true;
}

bool
tw_poller_is_shortage(tw_uverr err)
{
    return err == -ENOSPC || err == -ENOMEM || err == -EMFILE
           || err == -ENFILE;
}

/* EPERM is a file that cannot be watched, or a sandbox. */
bool
tw_poller_is_denied(tw_uverr err, int fd)
{
    struct stat st;

    if (err == -EPERM) {
        return fstat(fd, &st) < 0 || S_ISREG(st.st_mode)
               || S_ISDIR(st.st_mode);
    }
    return err == -EBADF || err == -EINVAL || err == -ENOENT;
}
