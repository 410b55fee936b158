/* When the loop gives the GIL to other threads although it has work.

   Without a thread that waits for it, giving it away costs little, and it is
   done every 20 us.  A thread that sleeps until it can have it must be woken
   first, and by then the loop, back at once, has it again.  So, once threads
   are seen to want it:

   - the loop has the GIL for itself for a while after each wait, its own for
     the GIL included (another thread may keep it for 5 ms each time);
   - from then on it opens a window again and again: a thread that comes along
     finds the GIL free, and need not fall asleep;
   - if it woke one that slept, it stays away until that one is there. */
#pragma once

#include "base/common.h"

/* Times are tw_now_ns()'s. */
typedef struct {
    uint64_t given;  /* when the loop last gave it away */
    uint64_t waited; /* when the loop last waited: for it, or for news */
    uint64_t wanted; /* when a thread was last seen to want it */
    uint64_t handed; /* when the loop last stayed away for a sleeper */
} TwGil;

/* Do threads want the GIL these days, and is it their turn? */
bool tw_gil_is_wanted(const TwGil *gil, uint64_t now);

/* For how long the loop may go on before it gives the GIL away: ns. */
uint64_t tw_gil_stretch(const TwGil *gil, uint64_t now);

/* Give the GIL away and take it back, if there are other threads and it is
   time.  They may do anything meanwhile. */
void tw_gil_share(TwGil *gil, uint64_t now);

/* The loop gave it away while it waited for news, and has it again. */
void tw_gil_note_wait(TwGil *gil, uint64_t now);
