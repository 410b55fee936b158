/* A fork beside a loop: tw_loop_after_fork(), the pollers' renew(),
   tw_wakeup_renew(), tw_lookups_leave().

   Parent and child have numbers for files; a fork copies the numbers, not the
   files.  The parent's loop goes on, woken by a thread; the child gives its
   loop files of its own, uses or closes it, and calls call_soon_threadsafe()
   on it.

   proof: safety: no step of the child changes what the parent's set watches,
   or wakes the parent; no ring of the parent's reaches the child; the child's
   set watches the child's wake-up descriptor; the child never waits for the
   parent's threads; and the parent gets all its wake-ups.
   broken: close_number(CHILD, SET); new_file(CHILD, SET) ==> skip
   broken: close_number(CHILD, WAKE); new_file(CHILD, WAKE) ==> skip
   broken: watch(CHILD); skip ==> skip
   broken: pid_of_pool == CHILD -> ==> true -> */ -> skip;
   broken: :: pid_of_pool == CHILD -> :: true ->
   broken: gone[number[PARENT * 2 + SET]] == 0 -> gone[number[PARENT * 2 + SET]] == 1 */

#define PARENT 0
#define CHILD 1
#define SET 0      /* the poller's set */
#define WAKE 1     /* the wake-up descriptor */
#define FILES 4
#define NONE 15
#define RINGS 2

/* number[process * 2 + what]: the file that it means. */
byte number[4] = NONE;
byte files;              /* made so far */
byte refs[FILES];        /* numbers of a file */
byte watches[FILES];     /* a set: the file of the wake-up it watches, + 1 */
bool readable[FILES];    /* a wake-up */
byte gone[FILES];        /* how often a file was given up by its last number */
bool forked;
byte rings;
byte woken;
bool lock_is_held;       /* the parent's resolver's, at the fork */
byte pid_of_pool = PARENT;

inline new_file(process, what)
{
    number[process * 2 + what] = files;
    refs[files] = 1;
    files++
}

inline close_number(process, what)
{
    refs[number[process * 2 + what]]--;
    if
    :: refs[number[process * 2 + what]] == 0 ->
        gone[number[process * 2 + what]]++
    :: else
    fi;
    number[process * 2 + what] = NONE
}

inline watch(process)
{
    watches[number[process * 2 + SET]] = number[process * 2 + WAKE] + 1
}

inline unwatch(process)
{
    watches[number[process * 2 + SET]] = 0
}

inline ring(process)
{
    readable[number[process * 2 + WAKE]] = true
}

#define sees(process)                                                         \
    (watches[number[process * 2 + SET]] > 0                                   \
     && readable[watches[number[process * 2 + SET]] - 1])

proctype child()
{
    /* tw_loop_after_fork(), before any other code of the child's */
    close_number(CHILD, SET); new_file(CHILD, SET);
    close_number(CHILD, WAKE); new_file(CHILD, WAKE);
    watch(CHILD); skip; /* its descriptors, again */
    assert(number[CHILD * 2 + SET] != number[PARENT * 2 + SET]);
    if
    :: ring(CHILD); /* call_soon_threadsafe() in the child */
        assert(sees(CHILD))
    :: true
    fi;
    /* loop.close() */
    if
    :: pid_of_pool == CHILD -> !lock_is_held /* waits for it */
    :: else
    fi;
    unwatch(CHILD);
    close_number(CHILD, WAKE);
    close_number(CHILD, SET)
}

active proctype parent()
{
    atomic {
        new_file(PARENT, SET);
        new_file(PARENT, WAKE);
        watch(PARENT)
    };
    do
    :: !forked ->
        atomic {
            forked = true;
            number[CHILD * 2 + SET] = number[PARENT * 2 + SET];
            number[CHILD * 2 + WAKE] = number[PARENT * 2 + WAKE];
            refs[number[PARENT * 2 + SET]]++;
            refs[number[PARENT * 2 + WAKE]]++;
            run child()
        }
    :: sees(PARENT) ->
        readable[number[PARENT * 2 + WAKE]] = false;
        woken++;
        assert(woken <= rings);
        assert(gone[number[PARENT * 2 + SET]] == 0)
    :: forked && !sees(PARENT) && rings == RINGS -> break
    od
}

/* A thread of the parent's; its lock is never free in the child. */
active proctype thread()
{
    lock_is_held = true;
    do
    :: rings < RINGS && watches[0] > 0 && !readable[1] ->
        atomic { rings++; readable[1] = true }
    :: rings == RINGS -> break
    od
}

active proctype nothing_is_lost()
{
    timeout;
    assert(rings == RINGS && woken == RINGS);
    assert(watches[0] == 2 && gone[0] == 0 && gone[1] == 0);
    assert(number[CHILD * 2 + SET] == NONE)
}
