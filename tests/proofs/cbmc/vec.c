/* base/vec: a set of pointers, of which each member knows its place.

   small: csrc/base/common.h: #define TW_KEEP_SLOTS 4096 ==> #define TW_KEEP_SLOTS 4
   unwind: 18
   small: csrc/base/vec.c: vec->cap : 16 ==> vec->cap : 2 */
#include "base/vec.c"

STUB_BLOCKS_OF(void *)

#define MOST 5 /* members */

typedef struct {
    int other;
    uint32_t place;
} Member;

static Member members[MOST];

static bool
valid(const TwVec *vec, bool gaps)
{
    if (vec->count > vec->cap || (vec->cap == 0) != (vec->items == NULL)) {
        return false;
    }
    for (uint32_t i = 0; i < vec->count; i++) {
        Member *member = vec->items[i];
        if (member == NULL ? !gaps || i == vec->count - 1
                           : member->place != i) {
            return false;
        }
    }
    return true;
}

/* Any set of the members, in any order; with gaps, if asked for. */
static TwVec
any_vec(uint32_t cap, bool gaps)
{
    TwVec vec;

    vec.cap = cap;
    __CPROVER_assume(vec.count <= cap);
    vec.place = offsetof(Member, place);
    vec.items = cap == 0 ? NULL : malloc(cap * sizeof(void *));
    __CPROVER_assume(cap == 0 || vec.items != NULL);
    for (uint32_t i = 0; i < MOST; i++) {
        members[i].place = TW_VEC_NONE;
    }
    for (uint32_t i = 0; i < vec.count; i++) {
        size_t which = nondet_size();
        if (gaps && which == MOST && i != vec.count - 1) {
            vec.items[i] = NULL;
            continue;
        }
        __CPROVER_assume(which < MOST
                         && members[which].place == TW_VEC_NONE);
        members[which].place = i;
        vec.items[i] = &members[which];
    }
    return vec;
}

static Member *
any_member(void)
{
    size_t which = nondet_size();

    __CPROVER_assume(which < MOST);
    return &members[which];
}

/* proof: reserve: room for as many more as are asked for, or none
   where the number of slots would wrap around; the members stay; without memory nothing changes.
   broken: csrc/base/vec.c: vec->cap - vec->count >= n ==> vec->cap >= n
   broken: csrc/base/vec.c: n > UINT32_MAX / 2 - vec->count ==> false */
static void
reserve_of(uint32_t cap, uint32_t count, uint32_t n)
{
    TwVec vec = any_vec(cap, true), old;
    Member *one = any_member();
    uint32_t place = one->place;

    __CPROVER_assume(vec.count == count);
    vec.count = count;
    old = vec;
    tw_uverr err = tw_vec_reserve(&vec, n);
    assert(valid(&vec, true) && vec.count == count);
    if (err == 0) {
        assert(vec.cap - vec.count >= n);
    }
    else {
        assert(err == -ENOMEM && vec.items == old.items);
    }
    assert(place == TW_VEC_NONE || vec.items[place] == one);
    tw_vec_fini(&vec);
    assert(vec.items == NULL && vec.cap == 0);
}

void
reserve(void)
{
    STUB_CASE(reserve_of(0, 0, 1));
    STUB_CASE(reserve_of(2, 1, 1));
    STUB_CASE(reserve_of(2, 2, 1));
    STUB_CASE(reserve_of(2, 1, 6));
    STUB_CASE(reserve_of(2, 1, INT32_MAX));
    STUB_CASE(reserve_of(2, 1, UINT32_MAX));
}

/* proof: add: the new one is a member and the last; the others stay.
   broken: csrc/base/vec.h: *tw_vec_place(vec, item) = vec->count; ==> */
static void
add_of(uint32_t cap)
{
    TwVec vec = any_vec(cap, true), old = vec;
    Member *one = any_member(), *new = any_member();

    __CPROVER_assume(new->place == TW_VEC_NONE && one != new);
    __CPROVER_assume(vec.count < vec.cap);
    uint32_t place = one->place;
    tw_vec_add(&vec, new);
    assert(valid(&vec, true) && vec.count == old.count + 1);
    assert(new->place == old.count && one->place == place);
    tw_vec_fini(&vec);
}

void
add(void)
{
    STUB_CASE(add_of(1));
    STUB_CASE(add_of(2));
    STUB_CASE(add_of(4));
}

/* proof: discard: it is no member any more, all others still are; what was
   none does not matter.
   broken: csrc/base/vec.h: *tw_vec_place(vec, vec->items[i]) = i; ==> */
static void
discard_of(uint32_t cap)
{
    TwVec vec = any_vec(cap, false), old = vec;
    Member *one = any_member(), *other = any_member();
    bool was = one->place != TW_VEC_NONE;
    bool other_was = other->place != TW_VEC_NONE;

    tw_vec_discard(&vec, one);
    assert(valid(&vec, false) && vec.count == old.count - was);
    assert(one->place == TW_VEC_NONE);
    assert(other == one || (other->place != TW_VEC_NONE) == other_was);
    assert(other == one || !other_was
           || vec.items[other->place] == other);
    tw_vec_fini(&vec);
}

void
discard(void)
{
    STUB_CASE(discard_of(0));
    STUB_CASE(discard_of(2));
    STUB_CASE(discard_of(4));
}

/* proof: leave_gap: it is no member any more; the others keep their places.
   broken: csrc/base/vec.h: vec->items[i] = NULL; ==>
   broken: csrc/base/vec.h: while (vec->count > 0 && ==> while ( */
static void
leave_gap_of(uint32_t cap)
{
    TwVec vec = any_vec(cap, true);
    Member *one = any_member(), *other = any_member();
    uint32_t place = other->place;

    tw_vec_leave_gap(&vec, one);
    assert(valid(&vec, true));
    assert(one->place == TW_VEC_NONE);
    assert(other == one || other->place == place);
    assert(other == one || place == TW_VEC_NONE || place < vec.count);
    tw_vec_fini(&vec);
}

void
leave_gap(void)
{
    STUB_CASE(leave_gap_of(0));
    STUB_CASE(leave_gap_of(2));
    STUB_CASE(leave_gap_of(4));
}

/* proof: trim: the members stay, and room for `least`, if there was any.
   unwind: 34
   broken: csrc/base/vec.c: vec->count > least ? vec->count : least ==> least */
static void
trim_of(uint32_t cap, uint32_t count, uint32_t least)
{
    TwVec vec = {.cap = cap, .count = count,
                 .place = offsetof(Member, place)};
    Member one;

    vec.items = malloc(cap * sizeof(void *));
    __CPROVER_assume(vec.items != NULL && one.place < count);
    vec.items[one.place] = &one;
    tw_vec_trim(&vec, least);
    assert(vec.count == count && vec.cap <= cap);
    assert(vec.cap >= count && vec.cap >= least);
    assert(vec.items[one.place] == &one);
    tw_vec_fini(&vec);
}

void
trim(void)
{
    STUB_CASE(trim_of(32, 1, 0));
    STUB_CASE(trim_of(32, 3, 1));
    STUB_CASE(trim_of(32, 1, 3));
    STUB_CASE(trim_of(32, 9, 0));
    STUB_CASE(trim_of(4, 2, 0));
}
