/* Large buffers in pages of their own, outside malloc's heap.

   A buffer that is made late and lives as long as the loop would be at the top
   of the heap, and malloc could not return to the system what is freed below
   it. */
#pragma once

#include "base/common.h"

/* A block of `size` bytes; NULL with MemoryError. */
void *tw_pages_new(size_t size);

/* Unmap it; `block` may be NULL. */
void tw_pages_free(void *block);
