/* What fails, what is short, what waits; and what is noted. */
#include "shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_RANGES 32
#define MAX_FDS 65536
#define MAX_ERRORS 16
/* Above every descriptor that a program here has. */
#define NULL_FD 900

static const char *const names[] = {
#define X(name) #name,
    CALLS(X)
#undef X
};

typedef struct {
    char *from, *to;
    int who;
} Range;

static Range ranges[MAX_RANGES];
static int range_count;

/* The nth to the last call of this kind. */
typedef struct {
    volatile bool on;
    Call call;
    int error;       /* 0: it does not fail */
    long cut;        /* > 0: it is that short */
    long wait_us;    /* > 0: it comes that late */
    long first, last, seen;
    int who;
} Fault;

static Fault fault;

/* Each call, by chance, with one of its own errors. */
static struct {
    volatile unsigned permille;
    unsigned long state;
    int who;
    int errors[CALL_COUNT][MAX_ERRORS];
    int error_counts[CALL_COUNT];
} chance;

/* Every call that moves bytes. */
static struct {
    volatile long bytes;
    int who;
} all_short;

static volatile bool quarantine;
static unsigned char closed[MAX_FDS];
static int null_fd = -1;

static long counts[CALL_COUNT][BY_OTHERS + 1];
static volatile long fired;
static char notes[16384];
static size_t notes_len;
static pid_t owner;
static volatile bool follows;

/* -- who calls ------------------------------------------------------------ */

static int
who_is(const char *library)
{
    if (strstr(library, "/_core") != NULL
        && strstr(library, "tidewire") != NULL) {
        return BY_EXTENSION;
    }
    return strstr(library, "libuv") != NULL ? BY_LIBUV : 0;
}

static int
add_ranges(struct dl_phdr_info *info, size_t size, void *arg)
{
    int who = who_is(info->dlpi_name);

    (void)size;
    (void)arg;
    for (int i = 0; who != 0 && i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X)
            && range_count < MAX_RANGES) {
            Range *range = &ranges[range_count++];
            range->from = (char *)info->dlpi_addr + p->p_vaddr;
            range->to = range->from + p->p_memsz;
            range->who = who;
        }
    }
    return 0;
}

/* Look where the extension and libuv are mapped. */
EXPORT void
shim_scan(void)
{
    range_count = 0;
    dl_iterate_phdr(add_ranges, NULL);
}

static int
caller_of(void *address)
{
    for (int i = 0; i < range_count; i++) {
        if ((char *)address >= ranges[i].from
            && (char *)address < ranges[i].to) {
            return ranges[i].who;
        }
    }
    return BY_OTHERS;
}

/* -- arming --------------------------------------------------------------- */

EXPORT int
shim_call(const char *name)
{
    for (int i = 0; i < CALL_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

EXPORT void
shim_arm(int call, long first, long last, int error, long cut, long wait_us,
         int who)
{
    fault = (Fault){.call = (Call)call, .first = first, .last = last,
                    .error = error, .cut = cut, .wait_us = wait_us,
                    .who = who};
    owner = getpid();
    fault.on = true;
}

EXPORT void
shim_add_error(int call, int error)
{
    if (chance.error_counts[call] < MAX_ERRORS) {
        chance.errors[call][chance.error_counts[call]++] = error;
    }
}

EXPORT void
shim_chance(unsigned long seed, unsigned permille, int who)
{
    chance.state = seed * 6364136223846793005ul + 1442695040888963407ul;
    chance.who = who;
    owner = getpid();
    chance.permille = permille;
}

EXPORT void
shim_short(long bytes, int who)
{
    all_short.who = who;
    owner = getpid();
    all_short.bytes = bytes;
}

/* Also in children that the process forks. */
EXPORT void
shim_follow(int on)
{
    follows = on != 0;
}

EXPORT void
shim_disarm(void)
{
    fault.on = false;
    chance.permille = 0;
    all_short.bytes = 0;
}

EXPORT void
shim_reset(void)
{
    shim_disarm();
    memset(counts, 0, sizeof(counts));
    fired = 0;
    notes_len = 0;
}

EXPORT long
shim_count(int call, int who)
{
    return counts[call][who];
}

EXPORT long
shim_fired(void)
{
    return fired;
}

/* -- the decision --------------------------------------------------------- */

static unsigned
dice(void)
{
    unsigned long s = __atomic_load_n(&chance.state, __ATOMIC_RELAXED);

    s = s * 6364136223846793005ul + 1442695040888963407ul;
    __atomic_store_n(&chance.state, s, __ATOMIC_RELAXED);
    return (unsigned)(s >> 33);
}

static bool
is_meant(int who, int caller)
{
    return (who & caller) != 0 && (owner == getpid() || follows);
}

static bool
fails_by_chance(Call call)
{
    int n = chance.error_counts[call];

    if (n == 0 || dice() % 1000 >= chance.permille) {
        return false;
    }
    fired++;
    errno = chance.errors[call][dice() % (unsigned)n];
    return true;
}

static void
wait_us(long us)
{
    struct timespec pause = {us / 1000000, us % 1000000 * 1000};
    int saved = errno;

    syscall(SYS_nanosleep, &pause, NULL);
    errno = saved;
}

/* The armed call is counted here, once for each call. */
static bool
is_armed_one(Call call)
{
    long n;

    if (call != fault.call) {
        return false;
    }
    n = __atomic_add_fetch(&fault.seen, 1, __ATOMIC_RELAXED);
    return n >= fault.first && n <= fault.last;
}

bool
shim_fails(Call call, void *address)
{
    int caller = caller_of(address);

    __atomic_fetch_add(&counts[call][caller], 1, __ATOMIC_RELAXED);
    if (fault.on && is_meant(fault.who, caller) && is_armed_one(call)) {
        fired++;
        if (fault.wait_us > 0) {
            wait_us(fault.wait_us);
        }
        errno = fault.error;
        return fault.error != 0;
    }
    return chance.permille > 0 && is_meant(chance.who, caller)
           && fails_by_chance(call);
}

/* After shim_fails() of the same call, which counted it. */
size_t
shim_cut(Call call, size_t n, void *address)
{
    long cut = 0;

    if (fault.on && fault.cut > 0 && call == fault.call
        && fault.seen >= fault.first && fault.seen <= fault.last
        && is_meant(fault.who, caller_of(address))) {
        cut = fault.cut;
    }
    else if (all_short.bytes > 0
             && is_meant(all_short.who, caller_of(address))) {
        cut = all_short.bytes;
    }
    return cut > 0 && n > (size_t)cut ? (size_t)cut : n;
}

/* -- notes, and the quarantine -------------------------------------------- */

void
shim_note(const char *what, Call call, int fd, void *address)
{
    Dl_info info = {0};
    const char *file = "?";
    char line[300];
    int n, saved = errno;
    size_t at;

    if (dladdr(address, &info) != 0 && info.dli_fname != NULL) {
        const char *slash = strrchr(info.dli_fname, '/');
        file = slash != NULL ? slash + 1 : info.dli_fname;
    }
    n = snprintf(line, sizeof(line), "%s %s fd=%d from %s+0x%lx\n", what,
                 names[call], fd, file,
                 (unsigned long)((char *)address - (char *)info.dli_fbase));
    at = __atomic_fetch_add(&notes_len, (size_t)n, __ATOMIC_RELAXED);
    if (at + (size_t)n < sizeof(notes)) {
        memcpy(notes + at, line, (size_t)n);
    }
    else {
        __atomic_fetch_sub(&notes_len, (size_t)n, __ATOMIC_RELAXED);
    }
    errno = saved;
}

EXPORT long
shim_notes(char *out, long size)
{
    size_t n = notes_len < sizeof(notes) ? notes_len : sizeof(notes);

    n = (size_t)size < n ? (size_t)size : n;
    memcpy(out, notes, n);
    notes_len = 0;
    return (long)n;
}

EXPORT void
shim_start_quarantine(void)
{
    if (null_fd < 0) {
        int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
        null_fd = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, NULL_FD);
        syscall(SYS_close, fd);
    }
    memset(closed, 0, sizeof(closed));
    owner = getpid();
    quarantine = true;
}

bool
shim_quarantines(int fd)
{
    return quarantine && owner == getpid() && fd >= 0 && fd < MAX_FDS
           && fd != null_fd;
}

EXPORT bool
shim_is_quarantined(int fd)
{
    return fd >= 0 && fd < MAX_FDS && (closed[fd] || fd == null_fd);
}

void
shim_quarantine(int fd)
{
    closed[fd] = 1;
    syscall(SYS_dup3, null_fd, fd, O_CLOEXEC);
}

void
shim_release(int fd)
{
    if (fd >= 0 && fd < MAX_FDS) {
        closed[fd] = 0;
    }
}

void
shim_used(Call call, int fd, void *address)
{
    if (shim_quarantines(fd) && closed[fd]) {
        shim_note("use-after-close", call, fd, address);
    }
}
