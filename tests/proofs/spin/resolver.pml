/* The resolver's threads: ops/lookup.c.

   A loop asks, gives up, takes answers, and leaves at any time; at most two
   threads serve it, which may end when they have waited long enough, or
   cannot be started.

   proof: safety: the pool is freed once, by nobody before the last user; a
   lookup is freed once; nobody writes to the descriptor after the loop has
   left; and when nothing can go on, no lookup waits for a thread, and no
   answer for the loop.
   broken: more = (queued > idle ==> more = (queued > idle + 1
   broken: :: !more -> signal() ==> :: !more -> skip
   broken: :: queued == 0 -> break\n ==> :: true -> break\n
   broken: first = (answers() == 0) ==> first = (answers() == 1)
   broken: threads++; await_ringers(); threads-- ==> await_ringers()
   broken: await_ringers(); ==>
   broken: :: left -> job[mine] = FREED ==> :: left -> job[mine] = DONE
   broken: broadcast(); unlock_or_free() ==> unlock_or_free() */ -> skip;
   broken: :: ringing > 0 -> unlock(); lock() -> :: ringing > 7 -> unlock(); lock()
   broken: :: left -> job[mine] = FREED -> :: false -> job[mine] = FREED
   broken: broadcast() /* left */ -> skip */

#define JOBS 3
#define MOST 2

mtype = { NEW, QUEUED, RUNNING, DONE, FREED }

mtype job[JOBS] = NEW;
bool locked;
byte queued;
byte idle;
byte threads;
byte ringing;
bool left;
bool freed;       /* the pool */
bool rung;        /* the wake-up descriptor is readable */
bool closed;      /* the loop has closed it */
byte waiting;     /* in pthread_cond_timedwait() */
byte signals;     /* of them, so many are to be woken */

#define answers() ((job[0] == DONE) + (job[1] == DONE) + (job[2] == DONE))

inline lock() { assert(!freed); atomic { !locked -> locked = true } }
inline unlock() { locked = false }

inline signal()
{
    atomic {
        if
        :: waiting > signals -> signals++
        :: else
        fi
    }
}

inline broadcast() { signals = waiting }

/* lookups_unlock(): the last one frees the pool. */
inline unlock_or_free()
{
    last = (left && threads == 0);
    unlock();
    if
    :: last -> atomic { assert(!freed); freed = true }
    :: else
    fi
}

/* Which one is taken does not matter here. */
inline take_one()
{
    atomic {
        if
        :: job[0] == QUEUED -> mine = 0
        :: job[1] == QUEUED -> mine = 1
        :: job[2] == QUEUED -> mine = 2
        fi;
        job[mine] = RUNNING;
        queued--
    }
}

inline wait_for_work()
{
    idle++;
    atomic { waiting++; unlock() };
end_waits:
    if
    :: atomic { signals > 0 -> signals--; waiting-- }
    :: atomic { impatient -> timed_out = true; waiting--;
        /* A signal may have been for this one. */
        if
        :: signals > waiting -> signals = waiting
        :: else
        fi }
    fi;
    lock();
    idle--
}

proctype thread(bool impatient)
{
    byte mine;
    bool timed_out, first, last;

    lock();
    do
    :: queued > 0 && !timed_out -> take_one();
        unlock();
        assert(job[mine] == RUNNING); /* getaddrinfo() */
        lock();
        if
        :: left -> job[mine] = FREED
        :: else ->
            first = (answers() == 0);
            job[mine] = DONE;
            if
            :: first ->
                idle++;
                ringing++;
                unlock();
                assert(!closed);
                rung = true;
                lock();
                ringing--;
                idle--
            :: else
            fi
        fi
    :: queued == 0 && left -> break
    :: queued == 0 && !left && !timed_out -> wait_for_work()
    :: timed_out ->
        if
        :: queued == 0 -> break
        :: else -> timed_out = false
        fi
    od;
    threads--;
    unlock_or_free()
}

inline unqueue(n)
{
    job[n] = FREED;
    queued--
}

inline ask(n)
{
    lock();
    job[n] = QUEUED;
    queued++;
    more = (queued > idle && threads < MOST);
    threads = threads + more;
    unlock();
    if
    :: !more -> signal()
    :: more -> run thread(false)
    :: more -> run thread(true)
    :: more -> /* it cannot be started */
        lock();
        threads--;
        if
        :: threads == 0 && job[n] == QUEUED -> unqueue(n)
        :: else
        fi;
        unlock()
    fi
}

inline give_up(n)
{
    lock();
    if
    :: job[n] == QUEUED -> unqueue(n)
    :: else
    fi;
    unlock()
}

inline free_all(state)
{
    byte k;
    atomic {
        for (k : 0 .. JOBS - 1) {
            if
            :: job[k] == state -> job[k] = FREED
            :: else
            fi
        }
    }
}

inline take_answers()
{
    rung = false;
    lock();
    free_all(DONE);
    unlock()
}

inline await_ringers()
{
    do
    :: ringing > 0 -> unlock(); lock()
    :: else -> break
    od
}

inline leave()
{
    lock();
    free_all(QUEUED);
    free_all(DONE);
    queued = 0;
    left = true;
    threads++; await_ringers(); threads--;
    broadcast(); unlock_or_free();
    closed = true
}

active proctype loop()
{
    byte next;
    bool more, last;

    do
    :: next < JOBS -> ask(next); next++
    :: next > 0 && job[next - 1] == QUEUED -> give_up(next - 1)
    :: atomic { rung -> skip }; take_answers()
    :: next == JOBS -> break
    od;
    if
    :: true -> leave()
    :: true ->
end_serves:
        do
        :: rung -> take_answers()
        od
    fi
}

active proctype nothing_is_lost()
{
    timeout;
    assert(queued == 0 && answers() == 0 && ringing == 0);
    assert(job[0] == FREED && job[1] == FREED && job[2] == FREED);
    assert(!left || (freed && threads == 0))
}
