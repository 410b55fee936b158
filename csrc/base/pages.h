/* Large buffers in pages of their own, apart from malloc's heap.

   A buffer that is made late and lives as long as the loop lies at the top of
   the heap: malloc cannot give the system back what is freed below it. */
#pragma once

#include "base/common.h"

/* A block of `size` bytes; NULL with MemoryError. */
void *tw_pages_new(size_t size);

/* Give it back to the system; `block` may be NULL. */
void tw_pages_free(void *block);
