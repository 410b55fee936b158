#include "base/pages.h"

#include <sys/mman.h>

/* The size of the mapping is stored in front of the block. */
#define PAGES_HEAD 64

void *
tw_pages_new(size_t size)
{
    size_t total = PAGES_HEAD + size;
    char *pages = mmap(NULL, total, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (pages == MAP_FAILED) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(pages, &total, sizeof(total));
    return pages + PAGES_HEAD;
}

void
tw_pages_free(void *block)
{
    size_t total;
    char *pages;

    if (block == NULL) {
        return;
    }
    pages = (char *)block - PAGES_HEAD;
    memcpy(&total, pages, sizeof(total));
    munmap(pages, total);
}
