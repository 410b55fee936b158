/* When the loop gives the GIL to other threads although it has work. */
#include "core/gil.h"

#include <sched.h>

#include "base/clock.h"

/* How long the loop may keep it while nobody wants it. */
#define GIL_STRETCH_NS 20000u
/* ... for itself behind a wait, though it is wanted. */
#define GIL_OWN_NS 10000u
/* How long a window is open, and how long the loop goes on in between: a
   thread that finds it shut sleeps for far longer. */
#define GIL_OPEN_NS 4000u
#define GIL_SHUT_NS 1000u
/* For how long a thread that wanted it is expected to come again. */
#define GIL_MEMORY_NS 1000000u
/* Giving it away takes this long if a thread must be woken ... */
#define GIL_WAKING_NS 600u
/* ... and this long if that thread then ran here, on the loop's core. */
#define GIL_RAN_HERE_NS 10000u
/* What a thread needs to wake up on another core. */
#define GIL_AWAY_NS 25000u
/* A yield that took longer let another thread run. */
#define GIL_YIELDED_NS 3000u

bool
tw_gil_is_wanted(const TwGil *gil, uint64_t now)
{
    return now - gil->wanted < GIL_MEMORY_NS
           && now - gil->waited >= GIL_OWN_NS;
}

uint64_t
tw_gil_stretch(const TwGil *gil, uint64_t now)
{
    return tw_gil_is_wanted(gil, now) ? GIL_SHUT_NS : GIL_STRETCH_NS;
}

/* Are there other threads?  Looks into no state but this thread's: others may
   be freed meanwhile, which needs no GIL. */
static bool
gil_has_company(void)
{
    PyThreadState *own = PyThreadState_Get();
    PyInterpreterState *interp = PyThreadState_GetInterpreter(own);

    return PyInterpreterState_ThreadHead(interp) != own
           || PyThreadState_Next(own) != NULL;
}

static void
gil_keep_window_open(uint64_t since)
{
    while (tw_now_ns() - since < GIL_OPEN_NS) {
    }
}

/* Until the thread that was woken has had the time to come, on another core
   or on this one.  A sleep would do no better: where a timer goes through a
   hypervisor, the shortest takes as long, and a longer one is too long. */
static void
gil_stay_away(uint64_t since)
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

/* Somebody woke up for it: once in a while it is worth the wait. */
static void
gil_hand_over(TwGil *gil, uint64_t now)
{
    if (now - gil->handed >= GIL_STRETCH_NS) {
        gil_stay_away(now);
        gil->handed = tw_now_ns();
    }
}

static void
gil_give_and_take(TwGil *gil, uint64_t now)
{
    bool expected = tw_gil_is_wanted(gil, now), gone, woken;
    PyThreadState *thread = PyEval_SaveThread();
    uint64_t given = tw_now_ns();

    gone = given - now > GIL_RAN_HERE_NS;
    woken = !gone && given - now > GIL_WAKING_NS;
    if (woken) {
        gil_hand_over(gil, given);
    }
    else if (expected && !gone) {
        gil_keep_window_open(given);
    }
    given = tw_now_ns();
    PyEval_RestoreThread(thread);
    gil->given = tw_now_ns();
    gone = gone || gil->given - given > GIL_WAKING_NS;
    if (gone) {
        gil->waited = gil->given;
    }
    if (gone || woken) {
        gil->wanted = gil->given;
    }
}

void
tw_gil_share(TwGil *gil, uint64_t now)
{
    if (now - gil->given < tw_gil_stretch(gil, now)) {
        return;
    }
    if (gil_has_company()) {
        gil_give_and_take(gil, now);
    }
    else {
        gil->given = now;
    }
}

void
tw_gil_note_wait(TwGil *gil, uint64_t now)
{
    gil->given = gil->waited = now;
}
