/* Small writes that wait for the next one of the same callback.

   A transport begins as asyncio's do: each write leaves at once.  A system
   call for each of several small writes is expensive, so a transport learns
   how its program writes.  When it wrote at least n >= 2 times in each of its
   last callbacks, and quickly, it holds the first n - 1 writes of a callback
   and sends them together with the n-th.  So nothing waits longer than the
   program's own habit says, and a callback that keeps the habit finds
   everything sent behind its last write.  A callback that breaks it has what
   it wrote sent at its end, and the transport learns anew.

   A boundary is whatever could show that a write was held: drain() (it calls
   is_closing()), get_extra_info(), a method of the TransportSocket, the start
   of a child...  It sends what is held, and counts as the end of a callback:
   writes with a boundary between them are never joined.

   A transport whose descriptor the program has as well (TW_F_SHARED, or
   somebody else owns its socket object) does not learn.

   The loop keeps the transports that hold something in a list, oldest first;
   each is owned by it.  Adding and removing are O(1).  `flags` has TW_F_HELD
   as long as a transport is in it.  Outside of callbacks the list is empty. */
#pragma once

#include "net/transport.h"

/* No more than this is held. */
#define TW_HOLD_PIECES 16
#define TW_HOLD_BYTES (64 * 1024)
/* Nanoseconds: a program that takes longer from its first write to the last
   is slow; what it writes is not held. */
#define TW_HOLD_NS (200 * 1000)

/* May the next write, which is counted here, be held?  Asked once for each
   write of the program that the kernel would be given. */
bool tw_hold_learn(TwTransport *self);
static inline bool
tw_hold_next(TwTransport *self)
{
    TwHabit *habit = &self->habit;

    if (TW_LIKELY(habit->callback_number != self->loop->callback_number
                  && habit->writes <= 1 && habit->streak == 0
                  && habit->least == 0)) {
        habit->callback_number = self->loop->callback_number;
        habit->writes = 1;
        return false;
    }
    return tw_hold_learn(self);
}

/* Has the program no other way to the descriptor, that we know of? */
bool tw_hold_is_private(const TwTransport *self);

/* The transport holds something from now on: put it in the loop's list. */
void tw_hold_begin(TwTransport *self);

/* It holds nothing any more: take it out of the list, which drops a
   reference.  Nothing if it is not in. */
void tw_hold_end(TwTransport *self);

/* A boundary: send what this transport holds.  0, or -1 with an exception
   that leaves the loop. */
TW_MUSTCHECK tw_status tw_hold_flush(TwTransport *self);

/* The program can write to the descriptor without us: never hold again, and
   send what is held. */
TW_MUSTCHECK tw_status tw_hold_share(TwTransport *self);
