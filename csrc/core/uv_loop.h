/* libuv's loop, for poller_uv.c.

   libuv ends the process when it meets an error that it does not expect.  So:
   - before it opens descriptors of its own, we make sure that there are
     enough, and that none of them becomes number 0, 1 or 2;
   - what its next uv_run() will pass to the kernel is tested right before,
     and on Linux already passed there: libuv never sees what the kernel
     refuses. */
#pragma once

#include <uv.h>

#include "base/common.h"

typedef struct {
    uv_loop_t loop;
    uv_timer_t timer; /* limits the wait */
    uv_async_t wake;  /* ends it: uv_async_send(), from any thread */
} TwUvLoop;

/* Make one.  0 or a negative errno. */
TW_MUSTCHECK tw_uverr tw_uv_start(TwUvLoop **made);

/* In a forked child: libuv renews its own descriptors, by their numbers.  0 or
   a negative errno: then it is of no use any more. */
TW_MUSTCHECK tw_uverr tw_uv_fork(TwUvLoop *uv);

/* End and free it, with the handles that are being closed. */
void tw_uv_end(TwUvLoop *uv);

/* Is its set still there?  The program may have closed all descriptors. */
bool tw_uv_is_whole(const TwUvLoop *uv);

/* Pass a descriptor to the kernel before libuv does.  0 or a negative
   errno. */
TW_MUSTCHECK tw_uverr tw_uv_hand_over(const TwUvLoop *uv, int fd,
                                      unsigned events);

/* And remove it again.  False: the number refers to another descriptor by now,
   while the kernel still has the old one, and may report it for ever. */
bool tw_uv_take_back(const TwUvLoop *uv, int fd);
