/* The loop's wakeup descriptor: a write to it ends the loop's wait.

   Three write to it: another thread that has work for the loop (tw_loop_wake),
   a thread that has finished a name look-up (ops/lookup.c), and Python's
   signal handler, which writes the number of the signal as one byte.  A loop
   that was made outside the main thread receives no signals and uses an
   eventfd, which is one descriptor.  Otherwise, or if the system refuses an
   eventfd, it uses a pipe.

   The descriptor number to write to stays the same while the loop is open.  If
   the program has received that number from set_wakeup_fd(), it is not closed
   with the loop: it becomes /dev/null. */
#pragma once

#include "core/loop.h"

/* Open it, and watch it.  `signals`: signals will be written to it.  OSError
   if the system refuses; then the loop is of no use. */
TW_MUSTCHECK tw_status tw_wakeup_open(TwLoop *loop, bool signals);

/* From now on signals will be written to it, if that was not so already. */
TW_MUSTCHECK tw_status tw_wakeup_accept_signals(TwLoop *loop);

/* Write to it: from any thread, without the GIL. */
void tw_wakeup_write(int number);

/* In a forked child: open new descriptors.  `ours`: the numbers still refer to
   the parent's.  0, or a negative errno: there is no wakeup descriptor. */
tw_uverr tw_wakeup_renew(TwLoop *loop, bool ours);

/* Close it.  `ours` as above. */
void tw_wakeup_close(TwLoop *loop, bool ours);
