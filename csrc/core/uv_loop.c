#include "core/uv_loop.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/epoll.h>
#endif

#include "core/poller.h"

/* At least what libuv opens for a loop and, once, for the process. */
#define UV_DESCRIPTORS 6

/* -- errors that libuv must not meet -------------------------------------- */

#ifdef __linux__
tw_uverr
tw_uv_hand_over(const TwUvLoop *uv, int fd, unsigned events)
{
    struct epoll_event ev = {.data = {.fd = fd}};

    ev.events = (events & TW_EV_READ ? EPOLLIN : 0u)
                | (events & TW_EV_WRITE ? EPOLLOUT : 0u);
    /* libuv adds it again, and accepts that it is there. */
    return epoll_ctl(uv_backend_fd(&uv->loop), EPOLL_CTL_ADD, fd, &ev) == 0
                   || errno == EEXIST
               ? 0
               : -errno;
}

/* Does the kernel have an entry with this number?  Yes, if nobody says. */
static bool
uv_is_listed(const TwUvLoop *uv, int fd)
{
    char text[128];
    int listed = 0, number;
    FILE *entries;

    snprintf(text, sizeof(text), "/proc/self/fdinfo/%d",
             uv_backend_fd(&uv->loop));
    entries = fopen(text, "re");
    if (entries == NULL) {
        return true;
    }
    while (!listed && fgets(text, sizeof(text), entries) != NULL) {
        listed = sscanf(text, "tfd: %d", &number) == 1 && number == fd;
    }
    fclose(entries);
    return listed;
}

bool
tw_uv_take_back(const TwUvLoop *uv, int fd)
{
    struct epoll_event ev = {0};

    return epoll_ctl(uv_backend_fd(&uv->loop), EPOLL_CTL_DEL, fd, &ev) == 0
           || !uv_is_listed(uv, fd);
}

/* It is asked with a change that changes nothing: reading an event would move
   the first one to the end of the kernel's list. */
bool
tw_uv_is_whole(const TwUvLoop *uv)
{
    /* libuv's own; absent after a fork */
    int fd = uv->loop.async_io_watcher.fd;
    struct epoll_event ev = {.events = EPOLLIN, .data = {.fd = fd}};

    return epoll_ctl(uv_backend_fd(&uv->loop), EPOLL_CTL_MOD, fd, &ev) == 0
           || errno == ENOENT || !tw_poller_is_denied(-errno, fd);
}
#else
tw_uverr
tw_uv_hand_over(const TwUvLoop *Py_UNUSED(uv), int fd,
                unsigned Py_UNUSED(events))
{
    struct stat st;

    if (fstat(fd, &st) < 0) {
        return -errno;
    }
    return S_ISREG(st.st_mode) || S_ISDIR(st.st_mode) ? -EPERM : 0;
}

bool
tw_uv_take_back(const TwUvLoop *Py_UNUSED(uv), int Py_UNUSED(fd))
{
    return true;
}

bool
tw_uv_is_whole(const TwUvLoop *uv)
{
    return fcntl(uv_backend_fd(&uv->loop), F_GETFD) >= 0;
}
#endif

static void
uv_close_down_to(const int *fds, int n, int kept)
{
    while (n > kept) {
        close(fds[--n]);
    }
}

/* Occupy all descriptors below 3; make sure that there are UV_DESCRIPTORS
   others, which are free again afterwards.  Returns how many are occupied, or
   a negative errno. */
static int
uv_occupy_low(int *fds)
{
    int n = 0, high = 0, err = 0;

    while (high < UV_DESCRIPTORS && err == 0) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        err = fd < 0 ? -errno : 0;
        if (err == 0) {
            high += fd > STDERR_FILENO;
            fds[n++] = fd;
        }
    }
    uv_close_down_to(fds, n, err < 0 ? 0 : n - high);
    return err < 0 ? err : n - high;
}

/* Would the kernel watch what libuv adds by itself in its first uv_run()? */
static tw_uverr
uv_probe_watches(const TwUvLoop *uv)
{
    int fds[2];
    tw_uverr err;

    if (pipe(fds) < 0) {
        return -errno;
    }
    err = tw_uv_hand_over(uv, fds[0], TW_EV_READ);
    if (err == 0) {
        err = tw_uv_hand_over(uv, fds[1], TW_EV_READ);
    }
    for (int i = 0; i < 2; i++) {
        tw_uv_take_back(uv, fds[i]);
        close(fds[i]);
    }
    return err;
}

/* -- libuv's loop --------------------------------------------------------- */

/* libuv 1.44 leaves its set open when it cannot make the rest. */
static tw_uverr
uv_init_loop(uv_loop_t *loop)
{
    tw_uverr err = uv_loop_init(loop);
    int set = uv_backend_fd(loop);

    if (err < 0 && set > STDERR_FILENO && fcntl(set, F_GETFD) >= 0) {
        close(set);
    }
    return err;
}

/* Make what libuv opens: none of it below 3. */
static tw_uverr
uv_make_loop(TwUvLoop *uv)
{
    int low[UV_DESCRIPTORS + 3], n = uv_occupy_low(low);
    tw_uverr err;

    if (n < 0) {
        return n;
    }
    err = uv_init_loop(&uv->loop);
    if (err == 0) {
        err = uv_probe_watches(uv);
        if (err == 0) {
            err = uv_async_init(&uv->loop, &uv->wake, NULL);
        }
        if (err < 0) {
            uv_loop_close(&uv->loop);
        }
    }
    uv_close_down_to(low, n, 0);
    return err;
}

tw_uverr
tw_uv_start(TwUvLoop **made)
{
    TwUvLoop *uv = PyMem_RawCalloc(1, sizeof(*uv));
    tw_uverr err = uv == NULL ? -ENOMEM : uv_make_loop(uv);

    if (err < 0) {
        PyMem_RawFree(uv);
        return err;
    }
    uv_timer_init(&uv->loop, &uv->timer);
    /* libuv has added its own descriptors when this returns. */
    uv_run(&uv->loop, UV_RUN_NOWAIT);
    *made = uv;
    return 0;
}

tw_uverr
tw_uv_fork(TwUvLoop *uv)
{
    int low[UV_DESCRIPTORS + 3], n = uv_occupy_low(low);
    tw_uverr err;

    if (n < 0) {
        return n;
    }
    err = uv_loop_fork(&uv->loop);
    uv_close_down_to(low, n, 0);
    return err < 0 ? err : uv_probe_watches(uv);
}

void
tw_uv_end(TwUvLoop *uv)
{
    uv_close((uv_handle_t *)&uv->timer, NULL);
    uv_close((uv_handle_t *)&uv->wake, NULL);
    while (uv_loop_close(&uv->loop) == UV_EBUSY) {
        uv_run(&uv->loop, UV_RUN_NOWAIT);
    }
    PyMem_RawFree(uv);
}
