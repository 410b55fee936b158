#include "net/hold.h"

#include "base/clock.h"
#include "base/compat.h"

/* This many consecutive callbacks have to write more than once. */
#define HOLD_LEARN 8

/* -- the list ------------------------------------------------------------- */

/* loop->flush_held: the callback ended, or a boundary of the whole loop.  In a
   forked child nothing is sent: the parent sends it. */
static void
hold_flush_all(TwLoop *loop)
{
    PyObject *exc = tw_err_take();

    while (loop->held != NULL) {
        TwTransport *self = (TwTransport *)Py_NewRef(loop->held);

        if (loop->forked) {
            self->ops->buffer_clear(self);
        }
        else if (tw_hold_flush(self) < 0) {
            tw_call_flush_failed((PyObject *)self);
        }
        tw_hold_end(self);
        Py_DECREF(self);
    }
    tw_err_restore_steal(exc);
}

void
tw_hold_begin(TwTransport *self)
{
    TwLoop *loop = self->loop;

    assert(!(self->flags & TW_F_HELD));
    self->flags |= TW_F_HELD;
    self->habit.next = NULL;
    self->habit.prev = loop->held_last;
    if (loop->held_last != NULL) {
        loop->held_last->habit.next = self;
    }
    else {
        loop->held = self;
    }
    loop->held_last = (TwTransport *)Py_NewRef((PyObject *)self);
    loop->flush_held = hold_flush_all;
}

void
tw_hold_end(TwTransport *self)
{
    TwLoop *loop = self->loop;
    TwHabit *habit = &self->habit;

    if (!(self->flags & TW_F_HELD)) {
        return;
    }
    self->flags &= ~TW_F_HELD;
    if (habit->prev != NULL) {
        habit->prev->habit.next = habit->next;
    }
    else {
        loop->held = habit->next;
    }
    if (habit->next != NULL) {
        habit->next->habit.prev = habit->prev;
    }
    else {
        loop->held_last = habit->prev;
    }
    habit->next = habit->prev = NULL;
    Py_DECREF(self);
}

/* -- the habit ------------------------------------------------------------ */

bool
tw_hold_is_private(const TwTransport *self)
{
    /* The TransportSocket of get_extra_info() owns it, too. */
    Py_ssize_t ours = self->flags & TW_F_SHOWN ? 2 : 1;

    return !(self->flags & TW_F_SHARED)
           && (self->sock == NULL || Py_REFCNT(self->sock) <= ours);
}

/* Learn from the callback that has ended. */
static void
hold_judge(TwTransport *self)
{
    TwHabit *habit = &self->habit;

    if (habit->slow || habit->writes < 2) {
        /* One other count of writes forgets half of what was learned. */
        habit->streak = habit->least && !habit->slow ? HOLD_LEARN / 2 : 0;
        habit->least = habit->lowest = 0;
        habit->slow = false;
        return;
    }
    if (habit->lowest == 0 || habit->writes < habit->lowest) {
        habit->lowest = habit->writes;
    }
    if (habit->least > habit->writes) {
        habit->least = habit->writes;
    }
    if (++habit->streak == HOLD_LEARN) {
        habit->streak = 0;
        habit->exact = false;
        habit->least = tw_hold_is_private(self) ? habit->lowest : 0;
        habit->lowest = 0;
    }
}

/* Does the callback take too long over its writes?  Where its first write is
   not known exactly, only the next callback is judged. */
static bool
hold_is_late(TwHabit *habit)
{
    uint64_t now = tw_now_ns();

    if (TW_LIKELY(now - habit->since <= TW_HOLD_NS)) {
        return false;
    }
    habit->slow = habit->exact;
    habit->exact = true;
    habit->since = now;
    return true;
}

/* The first write of a callback.  Reading the clock costs more than holding a
   write, so `since` is the beginning of the present batch of callbacks, unless
   that was too long ago in one of the last callbacks. */
static bool
hold_first(TwTransport *self)
{
    TwHabit *habit = &self->habit;

    hold_judge(self);
    habit->callback_number = self->loop->callback_number;
    habit->writes = 1;
    habit->since = habit->exact ? tw_now_ns() : self->loop->timing.begin;
    habit->sure = habit->least > 0 && tw_call_may_hold(self->loop);
    return habit->sure;
}

/* A program whose habit is known is only timed where it matters: at its second
   write, and at the last. */
bool
tw_hold_learn(TwTransport *self)
{
    TwHabit *habit = &self->habit;

    if (habit->callback_number != self->loop->callback_number) {
        return hold_first(self);
    }
    if (habit->writes == 1 && habit->streak == 0 && habit->least == 0) {
        habit->since = tw_now_ns(); /* the first did not look at the clock */
    }
    habit->writes += habit->writes < UINT8_MAX;
    if (habit->slow
        || (habit->least > 0
            && (habit->sure == 0 || habit->writes > habit->least))) {
        return false;
    }
    habit->sure = !hold_is_late(habit) && habit->least > 0 ? habit->least - 1
                                                           : 0;
    return habit->writes <= habit->sure;
}

/* -- boundaries ----------------------------------------------------------- */

tw_status
tw_hold_flush(TwTransport *self)
{
    tw_status status;

    self->habit.callback_number = self->loop->callback_number - 1;
    if (TW_LIKELY(!(self->flags & TW_F_HELD))) {
        return 0;
    }
    hold_is_late(&self->habit);
    Py_INCREF(self);
    status = self->ops->flush(self);
    Py_DECREF(self);
    return status;
}

tw_status
tw_hold_share(TwTransport *self)
{
    self->flags |= TW_F_SHARED;
    self->habit.least = self->habit.sure = 0;
    if (self->ops->shared != NULL) {
        self->ops->shared(self);
    }
    return tw_hold_flush(self);
}
