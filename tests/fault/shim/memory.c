/* A library for LD_PRELOAD: the nth malloc() of the extension, of libuv or of
   OpenSSL fails.  Python's own allocators are the business of
   _testcapi.set_nomemory(). */
#define _GNU_SOURCE
#include <errno.h>
#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define MAX_RANGES 32

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);

static struct {
    char *from, *to;
} ranges[MAX_RANGES];
static int range_count;

static volatile bool on;
static volatile long first, last, seen, fired;
static pid_t owner;

static bool
is_attacked(const char *library)
{
    return (strstr(library, "/_core") != NULL
            && strstr(library, "tidewire") != NULL)
           || strstr(library, "libuv") != NULL
           || strstr(library, "libssl") != NULL
           || strstr(library, "libcrypto") != NULL;
}

static int
add_ranges(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    for (int i = 0; is_attacked(info->dlpi_name) && i < info->dlpi_phnum;
         i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X)
            && range_count < MAX_RANGES) {
            ranges[range_count].from = (char *)info->dlpi_addr + p->p_vaddr;
            ranges[range_count].to = ranges[range_count].from + p->p_memsz;
            range_count++;
        }
    }
    return 0;
}

/* The allocations `from` to `until` fail, counted from now on. */
EXPORT void
nomalloc_arm(long from, long until)
{
    range_count = 0;
    dl_iterate_phdr(add_ranges, NULL);
    first = from;
    last = until;
    seen = fired = 0;
    owner = getpid();
    on = true;
}

EXPORT void
nomalloc_disarm(void)
{
    on = false;
}

EXPORT long
nomalloc_fired(void)
{
    return fired;
}

EXPORT long
nomalloc_seen(void)
{
    return seen;
}

static bool
fails(void *caller)
{
    long n;

    if (!on || owner != getpid()) {
        return false;
    }
    for (int i = 0; i < range_count; i++) {
        if ((char *)caller >= ranges[i].from
            && (char *)caller < ranges[i].to) {
            n = __atomic_add_fetch(&seen, 1, __ATOMIC_RELAXED);
            if (n >= first && n <= last) {
                fired++;
                errno = ENOMEM;
                return true;
            }
            return false;
        }
    }
    return false;
}

EXPORT void *
malloc(size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

EXPORT void *
calloc(size_t n, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL
                                              : __libc_calloc(n, size);
}

EXPORT void *
realloc(void *old, size_t size)
{
    return fails(__builtin_return_address(0)) ? NULL
                                              : __libc_realloc(old, size);
}
