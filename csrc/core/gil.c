#include "core/gil.h"

#include <sched.h>

#include "base/clock.h"

/* How long the loop keeps the GIL while no thread wants it ... */
#define GIL_STRETCH_NS 20000u
/* ... and after a wait, although threads want it. */
#define GIL_OWN_NS 10000u
/* How long the GIL stays free, and how long the loop keeps it in between.  A
   thread that does not find it free sleeps for much longer. */
#define GIL_OPEN_NS 4000u
#define GIL_SHUT_NS 1000u
/* A thread that wanted the GIL is expected to want it again for this long. */
#define GIL_MEMORY_NS 1000000u
/* A release takes this long if it wakes a thread ... */
#define GIL_WAKING_NS 600u
/* ... and this long if that thread then runs on the loop's core. */
#define GIL_RAN_HERE_NS 10000u
/* What a thread needs to wake up on another core. */
#define GIL_AWAY_NS 25000u
/* A yield that took longer let another thread run. */
#define GIL_YIELDED_NS 3000u

bool
tw_gil_is_wanted(const TwGil *gil, uint64_t now)
{
    return now - gil->last_demand < GIL_MEMORY_NS
           && now - gil->last_wait >= GIL_OWN_NS;
}

uint64_t
tw_gil_stretch(const TwGil *gil, uint64_t now)
{
    return tw_gil_is_wanted(gil, now) ? GIL_SHUT_NS : GIL_STRETCH_NS;
}

/* Are there other threads than this and the silent one?  This does not read
   another thread's state, because that may be freed at any time, without the
   GIL.  The silent one must get the GIL before it ends. */
static bool
gil_has_other_threads(const TwGil *gil)
{
    PyThreadState *silent = TW_SHARED_GET(gil->silent);
    PyThreadState *own = PyThreadState_Get();
    PyThreadState *first =
        PyInterpreterState_ThreadHead(PyThreadState_GetInterpreter(own));
    PyThreadState *last = PyThreadState_Next(own);

    if (first == own) {
        return last != NULL
               && (last != silent || PyThreadState_Next(silent) != NULL);
    }
    return first != silent || last != NULL
           || PyThreadState_Next(silent) != own;
}

static void
gil_wait_briefly(uint64_t since)
{
    while (tw_now_ns() - since < GIL_OPEN_NS) {
    }
}

/* Wait until the woken thread has had time to run, on another core or on this
   one.  A sleep would be no better: on a virtual machine the shortest sleep
   takes as long as this. */
static void
gil_wait_for_thread(uint64_t since)
{
    uint64_t before = since, now;

    for (;;) {
        sched_yield();
        now = tw_now_ns();
        if (now - since > GIL_AWAY_NS || now - before > GIL_YIELDED_NS) {
            return;
        }
        before = now;
    }
}

/* A thread has woken up for the GIL: wait until it runs, but not every
   time. */
static void
gil_hand_over(TwGil *gil, uint64_t now)
{
    if (now - gil->last_handover >= GIL_STRETCH_NS) {
        gil_wait_for_thread(now);
        gil->last_handover = tw_now_ns();
    }
}

bool
tw_gil_must_share(TwGil *gil, uint64_t now)
{
    if (now - gil->last_release < tw_gil_stretch(gil, now)) {
        return false;
    }
    if (gil_has_other_threads(gil)) {
        return true;
    }
    gil->last_release = now;
    return false;
}

void
tw_gil_share(TwGil *gil, uint64_t now)
{
    bool expected = tw_gil_is_wanted(gil, now), used, woken;
    PyThreadState *thread = PyEval_SaveThread();
    uint64_t released = tw_now_ns();

    used = released - now > GIL_RAN_HERE_NS;
    woken = !used && released - now > GIL_WAKING_NS;
    if (woken) {
        gil_hand_over(gil, released);
    }
    else if (expected && !used) {
        gil_wait_briefly(released);
    }
    released = tw_now_ns();
    PyEval_RestoreThread(thread);
    gil->last_release = tw_now_ns();
    used = used || gil->last_release - released > GIL_WAKING_NS;
    if (used) {
        gil->last_wait = gil->last_release;
    }
    if (used || woken) {
        gil->last_demand = gil->last_release;
    }
}

void
tw_gil_note_wait(TwGil *gil, uint64_t now)
{
    gil->last_release = gil->last_wait = now;
}
