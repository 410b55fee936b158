/* Which parts of the extension run: a byte for each of its addresses.

   Linked into a build with -fsanitize-coverage=trace-pc, which calls
   __sanitizer_cov_trace_pc() at the head of each basic block.  The bytes are
   in the file that TW_TRACE names, so that the children of a test, which
   inherit the variable, mark the same ones.  tests/coverage/trace.py reads
   and clears them between two tests. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define TRACE_SIZE (16u << 20)

extern const char __ehdr_start[] __attribute__((visibility("hidden")));

static unsigned char *trace_bytes;

__attribute__((constructor, no_sanitize_coverage)) static void
trace_open(void)
{
    const char *name = getenv("TW_TRACE");
    int fd = name == NULL ? -1 : open(name, O_RDWR | O_CLOEXEC);
    void *bytes;

    if (fd < 0) {
        return;
    }
    bytes = mmap(NULL, TRACE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (bytes != MAP_FAILED) {
        trace_bytes = bytes;
    }
}

void __sanitizer_cov_trace_pc(void);

__attribute__((no_sanitize_coverage, visibility("default"))) void
__sanitizer_cov_trace_pc(void)
{
    uintptr_t at = (uintptr_t)__builtin_return_address(0)
                   - (uintptr_t)__ehdr_start;

    if (trace_bytes != NULL && at < TRACE_SIZE) {
        trace_bytes[at] = 1;
    }
}

/* For sitecustomize.py: os._exit() would lose the counters. */
void __gcov_dump(void);
void tw_trace_dump(void);

__attribute__((visibility("default"), no_sanitize_coverage)) void
tw_trace_dump(void)
{
    __gcov_dump();
}

/* gcc's library of counters may have been built for a newer C library. */
long __isoc23_strtol(const char *text, char **end, int base);

__attribute__((weak, visibility("hidden"), no_sanitize_coverage)) long
__isoc23_strtol(const char *text, char **end, int base)
{
    return strtol(text, end, base);
}
