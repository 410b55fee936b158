/* When the loop releases the GIL for other threads although it has work.

   While no thread waits for the GIL, a release costs little, and the loop does
   it every 20 us.  A thread that waits for the GIL sleeps.  It must wake up
   first, and by then the loop holds the GIL again.  So, once threads are known
   to want it:

   - after each wait, for descriptors or for the GIL, the loop keeps the GIL
     for a while (another thread may keep it for 5 ms each time);
   - then it releases the GIL for a few microseconds, again and again: a thread
     that asks in that time finds it free, and need not sleep;
   - if a release woke a sleeping thread, the loop does not ask for the GIL
     until that thread runs. */
#pragma once

#include "base/common.h"

/* Times are tw_now_ns()'s. */
typedef struct {
    uint64_t last_release;
    uint64_t last_wait;     /* for the GIL, or for descriptors */
    uint64_t last_demand;   /* when a thread was last seen to want the GIL */
    PyThreadState *silent;  /* borrowed or NULL: of a thread that does not want
                               the GIL while it is here (the watchdog) */
    uint64_t last_handover; /* when the loop last waited for a sleeping
                               thread */
} TwGil;

/* Have threads wanted the GIL lately, and is it their turn? */
bool tw_gil_is_wanted(const TwGil *gil, uint64_t now);

/* For how long the loop may run before it releases the GIL: ns. */
uint64_t tw_gil_stretch(const TwGil *gil, uint64_t now);

/* Are there other threads, and has the time come to release the GIL? */
bool tw_gil_must_share(TwGil *gil, uint64_t now);

/* Release the GIL and acquire it again.  Other threads may do anything
   meanwhile. */
void tw_gil_share(TwGil *gil, uint64_t now);

/* The loop has waited for descriptors without the GIL. */
void tw_gil_note_wait(TwGil *gil, uint64_t now);
