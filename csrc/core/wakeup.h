/* The loop's wakeup descriptor: writing to it ends the loop's wait.

   These write: another thread that has work for the loop (tw_loop_wake), a
   thread that has looked a name up (ops/lookup.c), and Python's signal
   handler, which writes the number of the signal as one byte.  A loop that was
   made outside the main thread gets no signals, and uses an eventfd, which is
   one descriptor; otherwise, or if the system refuses an eventfd, it is a
   pipe.

   Its number for writing stays the same while the loop is open.  If the
   program has received that number from set_wakeup_fd(), it is not closed with
   the loop: it becomes /dev/null. */
#pragma once

#include "core/loop.h"

/* Open it, and watch it.  `signals`: signals will be written to it.  OSError
   if the system refuses; then the loop is of no use. */
TW_MUSTCHECK tw_status tw_wakeup_open(TwLoop *loop, bool signals);

/* Signals will be written to it from now on, if that is not so yet. */
TW_MUSTCHECK tw_status tw_wakeup_accept_signals(TwLoop *loop);

/* Write to it: from any thread, without the GIL. */
void tw_wakeup_write(int number);

/* In a forked child: descriptors of its own.  `ours`: the numbers still mean
   what they meant to the parent.  0, or a negative errno: there is none. */
tw_uverr tw_wakeup_renew(TwLoop *loop, bool ours);

/* Close it.  `ours` as above. */
void tw_wakeup_close(TwLoop *loop, bool ours);
