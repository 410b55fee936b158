/* Small writes that wait for the next one of the same callback.

   At first a transport sends each write at once, as asyncio's does.  A system
   call for each of several small writes is expensive, so a transport learns
   how its program writes.  When the program wrote at least n >= 2 times in
   each of its last callbacks, and quickly, the first n - 1 writes of a
   callback are held, and sent together with the n-th.  So nothing waits longer
   than the program's own habit, and in a callback that keeps the habit
   everything is sent with its last write.  If a callback breaks the habit, its
   writes are sent when it returns, and the transport learns again.

   A boundary is anything that could show that a write was held: drain() (it
   calls is_closing()), get_extra_info(), a method of the TransportSocket, the
   start of a child...  It sends what is held, and counts as the end of a
   callback: writes before and after a boundary are never joined.

   A transport whose descriptor the program also has (TW_F_SHARED, or somebody
   else owns its socket object) does not learn.

   The loop keeps the transports that hold something in a list, oldest first,
   and owns them.  Adding and removing are O(1).  TW_F_HELD is set while a
   transport is in the list.  Outside of callbacks the list is empty. */
#pragma once

#include "net/transport.h"

/* The most that is held. */
#define TW_HOLD_PIECES 16
#define TW_HOLD_BYTES (64 * 1024)
/* Nanoseconds: if a program takes longer from its first write to the last, it
   is slow, and its writes are not held. */
#define TW_HOLD_NS (200 * 1000)

/* May the next write, which is counted here, be held?  Asked once for each
   write of the program that would be passed to the kernel. */
bool tw_hold_learn(TwTransport *self);
static inline bool
tw_hold_next(TwTransport *self)
{
    TwHabit *habit = &self->habit;

    if (habit->callback_number == self->loop->callback_number) {
        if (habit->writes < habit->sure) {
            habit->writes++;
            return true;
        }
    }
    else if (TW_LIKELY(habit->writes <= 1 && habit->streak == 0
                       && habit->least == 0)) {
        habit->callback_number = self->loop->callback_number;
        habit->writes = 1;
        return false;
    }
    return tw_hold_learn(self);
}

/* Is the descriptor known to be ours alone? */
bool tw_hold_is_private(const TwTransport *self);

/* The transport holds something from now on: add it to the loop's list. */
void tw_hold_begin(TwTransport *self);

/* It holds nothing any more: remove it from the list, which releases a
   reference.  Does nothing if it is not in the list. */
void tw_hold_end(TwTransport *self);

/* A boundary: send what this transport holds.  0, or -1 with an exception
   that leaves the loop. */
TW_MUSTCHECK tw_status tw_hold_flush(TwTransport *self);

/* The program can write to the descriptor itself: never hold again, and send
   what is held. */
TW_MUSTCHECK tw_status tw_hold_share(TwTransport *self);
