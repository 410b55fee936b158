/* Makes one call of the C API fail, at one place of the extension.

   sites.py links this into the counting build, with a wrapper for each
   function of the C API that can fail.  A place is the call and the two that
   led to it, so that a helper's failure is a place of each of its callers.
   The places that were seen are in the file that TW_SITES names, which
   children share. */
#include <Python.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/mman.h>

#define SITES 65536u
#define SITE_BITS 21

extern const char __ehdr_start[] __attribute__((visibility("hidden")));

static uint64_t *sites;         /* a table by hash, with holes */
static uint64_t site_wanted;    /* which one fails; 0: all are noted */
static long site_left;          /* and after how many */
static bool site_armed;
static long site_fired;

#define EXPORTED __attribute__((visibility("default")))

EXPORTED void tw_site_arm(uint64_t site, long nth);
EXPORTED long tw_site_disarm(void);
int tw_site_check(uintptr_t from, const uintptr_t *frame, int has_error);

__attribute__((constructor)) static void
site_open(void)
{
    const char *name = getenv("TW_SITES");
    int fd = name == NULL ? -1 : open(name, O_RDWR | O_CLOEXEC);
    void *bytes;

    if (fd < 0) {
        return;
    }
    bytes = mmap(NULL, SITES * sizeof(uint64_t), PROT_READ | PROT_WRITE,
                 MAP_SHARED, fd, 0);
    close(fd);
    if (bytes != MAP_FAILED) {
        sites = bytes;
    }
}

void
tw_site_arm(uint64_t site, long nth)
{
    site_wanted = site;
    site_left = nth;
    site_fired = 0;
    site_armed = true;
}

long
tw_site_disarm(void)
{
    site_armed = false;
    return site_fired;
}

static void
site_note(uint64_t site)
{
    for (uint64_t i = site * 0x9e3779b97f4a7c15u >> 48;; i++) {
        uint64_t *slot = &sites[i % SITES];
        if (*slot == 0) {
            *slot = site;
        }
        if (*slot == site) {
            return;
        }
    }
}

/* Fail?  A build without optimisation has a frame for each function. */
int
tw_site_check(uintptr_t from, const uintptr_t *frame, int has_error)
{
    uintptr_t start = (uintptr_t)__ehdr_start;
    uint64_t site = from - start;

    if (!site_armed || sites == NULL || site >> SITE_BITS != 0) {
        return 0;       /* or the interpreter calls a method */
    }
    for (int shift = SITE_BITS; shift <= 2 * SITE_BITS; shift += SITE_BITS) {
        uintptr_t above = frame[1] - start;
        if (above >> SITE_BITS != 0) {
            break;      /* the interpreter: no frames */
        }
        site |= (uint64_t)above << shift;
        frame = (const uintptr_t *)frame[0];
    }
    if (site_wanted == 0) {
        site_note(site);
        return 0;
    }
    if (site != site_wanted || --site_left != 0) {
        return 0;
    }
    site_fired++;
    if (has_error) {
        PyErr_SetNone(PyExc_MemoryError);
    }
    return 1;
}
