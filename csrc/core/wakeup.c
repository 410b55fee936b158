#include "core/wakeup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errno.h"
#include "base/sys.h"
#include "core/call.h"
#include "core/watcher.h"

/* tw_wakeup_write() writes this: valid for an eventfd, and no byte is a
   signal. */
#define WAKEUP_RING 0xfefefefefefefefeu
/* A pipe is never full with fewer bytes: it has at least a page, whose end may
   be too short for a write of ours. */
#define WAKEUP_FULL (4096 - sizeof(uint64_t))

/* -- its descriptors ------------------------------------------------------ */

static tw_uverr
wakeup_make(bool signals, int fds[2])
{
    tw_uverr event = signals ? -ENOSYS : tw_sys_eventfd();

    if (event < 0) {
        return tw_sys_pipe(fds);
    }
    fds[0] = fds[1] = (int)event;
    return 0;
}

static void
wakeup_close_numbers(int fds[2])
{
    close(fds[0]);
    if (fds[0] != fds[1]) {
        close(fds[1]);
    }
}

/* -- the turn ------------------------------------------------------------- */

/* asyncio's loop handles them in Python, one by one. */
static tw_status
wakeup_handle_signals(TwLoop *loop, const char *numbers, Py_ssize_t n)
{
    PyObject *argv[2] = {(PyObject *)loop, NULL};
    tw_status status = -1;

    loop->stats.signals += (uint64_t)n;
    argv[1] = PyBytes_FromStringAndSize(numbers, n);
    if (argv[1] != NULL) {
        status = tw_status_steal(
            tw_call_plain_method(loop->state->str._handle_signals, argv, 2));
        Py_DECREF(argv[1]);
    }
    return status == 0 ? 0
                       : tw_call_report(loop,
                                        "Exception in a signal's handling",
                                        NULL, NULL);
}

static inline uint64_t
wakeup_bit(int number)
{
    return number > 0 && number <= 64 ? (uint64_t)1 << (number - 1) : 0;
}

/* Read everything.  Handle the signals; other bytes only woke the loop.
   `came`: a bit for each of these signals. */
static tw_status
wakeup_read(TwLoop *loop, uint64_t *came)
{
    unsigned char bytes[512];
    char numbers[512];
    size_t total = 0;
    ssize_t got;

    do {
        Py_ssize_t n = 0;
        got = read(loop->wake_fd, bytes, sizeof(bytes));
        for (ssize_t i = 0; i < got; i++) {
            if (bytes[i] > 0 && bytes[i] < NSIG) {
                numbers[n++] = (char)bytes[i];
                *came |= wakeup_bit(bytes[i]);
            }
        }
        total += got > 0 ? (size_t)got : 0;
        if (n > 0 && wakeup_handle_signals(loop, numbers, n) < 0) {
            return -1;
        }
    } while (got == sizeof(bytes));
    loop->wake_full |= total >= WAKEUP_FULL;
    return 0;
}

static tw_status
wakeup_handle_lost(TwLoop *loop, uint64_t lost)
{
    char numbers[64];
    Py_ssize_t n = 0;

    for (int number = 1; number <= 64; number++) {
        if (lost & wakeup_bit(number)) {
            numbers[n++] = (char)number;
        }
    }
    return n > 0 ? wakeup_handle_signals(loop, numbers, n) : 0;
}

/* A signal whose byte finds no room in the pipe is lost.  But its Python
   handler notes it (_note_signal), always later than the byte is written.  So
   when no handler is left to run, and the bytes were read, a noted signal
   without a byte is one that was lost. */
static tw_status
wakeup_drain(TwLoop *loop)
{
    uint64_t came = 0, noted = 0, news;
    bool full;

    do {
        if (wakeup_read(loop, &came) < 0 || PyErr_CheckSignals() < 0) {
            return -1;
        }
        news = loop->signals_handled & ~noted;
        noted |= news;
    } while (news != 0);
    full = loop->wake_full;
    loop->wake_full = false;
    loop->signals_handled = 0;
    return full ? wakeup_handle_lost(loop, noted & ~came) : 0;
}

static tw_status
wakeup_on_ready(PyObject *op, unsigned events)
{
    TwLoop *loop = (TwLoop *)op;

    /* A renewed set has refused it: the next poll tries again. */
    if (events & TW_EV_BAD && tw_watcher_rearm(loop->wakeup) < 0) {
        return tw_call_report(loop, "The loop cannot be woken", NULL, NULL);
    }
    if (wakeup_drain(loop) < 0) {
        return -1;
    }
    return loop->deliver_lookups == NULL ? 0 : loop->deliver_lookups(loop);
}

void
tw_wakeup_write(int number)
{
    static const uint64_t ring = WAKEUP_RING;
    ssize_t done;

    /* Otherwise it fails only if the pipe is full, and so readable. */
    do {
        done = write(number, &ring, sizeof(ring));
    } while (done < 0 && errno == EINTR);
}

/* -- life ----------------------------------------------------------------- */

/* Watch it at once: without it the loop is of no use. */
static tw_status
wakeup_watch(TwLoop *loop, int fd)
{
    TwWatcher *w = tw_watcher_open(loop, fd, (PyObject *)loop,
                                   wakeup_on_ready, false);
    tw_uverr err;

    if (w == NULL) {
        return -1;
    }
    err = tw_watcher_want_now(w, TW_EV_READ);
    if (err < 0) {
        tw_errno_raise(err);
        tw_watcher_close(w);
        return -1;
    }
    loop->wake_fd = fd;
    loop->wakeup = w;
    return 0;
}

/* Make descriptors, and watch the one to read from. */
static tw_status
wakeup_make_watched(TwLoop *loop, bool signals, int fds[2])
{
    tw_uverr err = wakeup_make(signals, fds);

    if (err < 0) {
        tw_errno_raise(err);
        return -1;
    }
    if (wakeup_watch(loop, fds[0]) < 0) {
        wakeup_close_numbers(fds);
        return -1;
    }
    return 0;
}

tw_status
tw_wakeup_open(TwLoop *loop, bool signals)
{
    int fds[2];

    if (wakeup_make_watched(loop, signals, fds) < 0) {
        return -1;
    }
    loop->wake_write = fds[1];
    return 0;
}

/* The pipe's write end gets the eventfd's number: threads that know it may be
   about to write to it.  Nobody reads what they wrote to the eventfd, so we
   write once to the pipe. */
tw_status
tw_wakeup_accept_signals(TwLoop *loop)
{
    TwWatcher *old = loop->wakeup;
    int fds[2], number = loop->wake_write;
    tw_uverr err;

    if (loop->wake_fd != number) {
        return 0;
    }
    if (wakeup_make_watched(loop, true, fds) < 0) {
        return -1;
    }
    tw_watcher_stop_now(old);
    err = tw_sys_dup_onto(fds[1], number);
    close(fds[1]);
    if (err < 0) {
        tw_watcher_close(loop->wakeup);
        close(fds[0]);
        loop->wakeup = old;
        loop->wake_fd = number;
        if (tw_watcher_want(old, TW_EV_READ) == 0) {
            tw_errno_raise(err);
        }
        return -1;
    }
    tw_watcher_close(old);
    tw_wakeup_write(number);
    return 0;
}

/* The two ends of a pipe are one file to fstat(2). */
static bool
wakeup_is_other_end(int one, int other)
{
    struct stat a, b;

    if (one == other) {
        return true;
    }
    if (fstat(one, &a) < 0 || fstat(other, &b) < 0) {
        return errno != EBADF;
    }
    return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* The program has the number from set_wakeup_fd(), and may set it again.
   Nobody reads what is written to it from now on. */
static void
wakeup_leave_null(int number)
{
    int fd = open("/dev/null", O_WRONLY | O_NONBLOCK | O_CLOEXEC);

    if (fd < 0 || tw_sys_dup_onto(fd, number) < 0) {
        close(number);
    }
    if (fd >= 0) {
        close(fd);
    }
}

static void
wakeup_close_own(TwLoop *loop, bool ours)
{
    if (ours && loop->wake_fd >= 0) {
        if (wakeup_is_other_end(loop->wake_fd, loop->wake_write)) {
            if (loop->wake_known) {
                wakeup_leave_null(loop->wake_write);
            }
            else {
                close(loop->wake_write);
            }
        }
        if (loop->wake_fd != loop->wake_write) {
            close(loop->wake_fd);
        }
    }
    loop->wake_fd = loop->wake_write = -1;
}

tw_uverr
tw_wakeup_renew(TwLoop *loop, bool ours)
{
    bool signals = loop->wake_fd != loop->wake_write;
    int fds[2];
    tw_uverr err;

    if (loop->wakeup == NULL) {
        return 0;
    }
    wakeup_close_own(loop, ours);
    err = wakeup_make(signals, fds);
    if (err == 0) {
        err = tw_watcher_renumber(loop->wakeup, fds[0]);
        if (err < 0) {
            wakeup_close_numbers(fds);
        }
    }
    if (err == 0) {
        loop->wake_fd = fds[0];
        loop->wake_write = fds[1];
    }
    return err;
}

void
tw_wakeup_close(TwLoop *loop, bool ours)
{
    if (loop->wakeup != NULL) {
        tw_watcher_close(TW_TAKE(loop->wakeup));
    }
    wakeup_close_own(loop, ours);
}
