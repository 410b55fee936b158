/* The loop's wake-up: core/wakeup.c, tw_loop_wake(), core/turn_poll.c.

   A loop that sleeps without the GIL in its poller; two threads that call
   call_soon_threadsafe(); a thread of the resolver, which has no GIL; a
   signal.  The loop was made outside of the main thread and is run by the
   main thread now, so that its eventfd is exchanged for a pipe under the same
   number (tw_wakeup_accept_signals) at any time between two turns.

   proof: safety: when nothing can go on, no handle is queued, no answer waits
   and no signal is pending; and a handle is never queued beside a loop that
   sleeps and is not rung.
   broken: sleeping = true; release(); ==> release(); sleeping = true;
   broken: :: sleeping -> sleeping = false; ring() ==> :: sleeping -> sleeping = false
   broken: ring(); skip ==> skip
   broken: rung = false; take() ==> take(); rung = false
   broken: first = (done == 0) ==> first = (done == 1)
   broken: pending = true; ring() ==> ring(); pending = true */

#define CALLERS 2
#define CALLS 2
#define ANSWERS 2

bool gil;             /* somebody has it */
bool sleeping;        /* loop->sleeping, under the GIL */
byte ready;           /* loop->ready.count, under the GIL */
byte ran;
byte done;            /* the resolver's answers, under its lock */
byte taken;
bool pending;         /* a signal that Python has noted and not handled */
bool rung;            /* the descriptor that the loop watches is readable */
bool watched;         /* the pipe is watched, and the eventfd no longer */
bool meant;           /* the number means the pipe */

inline acquire() { atomic { !gil -> gil = true } }
inline release() { gil = false }

/* write(wake_write): to what the number means at that moment. */
inline ring()
{
    atomic {
        if
        :: watched == meant -> rung = true
        :: else /* into the eventfd, which nobody reads */
        fi
    }
}

inline take() { atomic { taken = taken + done; done = 0 } }

inline caller_wakes()
{
    if
    :: sleeping -> sleeping = false; ring()
    :: else
    fi
}

active proctype loop()
{
    acquire();
    do
    :: /* a generation */
        do
        :: ready > 0 -> ready--; ran++
        :: else -> break
        od;
        /* Between two runs, perhaps: the main thread's first.  What was rung
           on the eventfd is not in the pipe; hence a ring of its own. */
        if
        :: !watched ->
            atomic { watched = true; rung = false };
            meant = true;
            ring(); skip /* for what came before */
        :: true
        fi;
        release(); /* poll_share_gil() */
        acquire();
        if
        :: ready > 0
        :: else ->
            sleeping = true; release();
end_waits:
            rung; /* the poller's wait */
            acquire();
            sleeping = false
        fi;
        if
        :: rung ->
            rung = false; take()
        :: else
        fi;
        pending = false /* PyErr_CheckSignals() */
    od
}

active [CALLERS] proctype caller()
{
    byte calls;

    do
    :: calls < CALLS ->
        acquire();
        ready++;
        caller_wakes();
        assert(!sleeping || rung);
        release();
        calls++
    :: else -> break
    od
}

active proctype resolver()
{
    byte answers;
    bool first;

    do
    :: answers < ANSWERS ->
        atomic {
            first = (done == 0);
            done++
        }
        if
        :: first -> ring()
        :: else
        fi;
        answers++
    :: else -> break
    od
}

/* Python's C handler: notes it, then writes its byte. */
active proctype signalled()
{
    pending = true; ring()
}

active proctype nothing_is_lost()
{
    timeout;
    assert(ready == 0 && ran == CALLERS * CALLS);
    assert(done == 0 && taken == ANSWERS);
    assert(!pending)
}
