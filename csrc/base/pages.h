/* Large buffers in pages of their own, outside malloc's heap.

   A buffer that is allocated late and lives as long as the loop would lie at
   the top of the heap.  malloc() could then not return the memory that is
   freed below it to the system. */
#pragma once

#include "base/common.h"

/* A block of `size` bytes; NULL with MemoryError. */
void *tw_pages_new(size_t size);

/* Unmap it; `block` may be NULL. */
void tw_pages_free(void *block);
