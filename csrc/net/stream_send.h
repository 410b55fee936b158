/* Sends pieces of memory to a stream socket, with one system call. */
#pragma once

#include <sys/uio.h>

#include "base/common.h"

/* Returns the bytes sent of the n > 0 pieces (0: the kernel's buffer is full),
   or a negative errno.  Raises no SIGPIPE. */
tw_uverr tw_stream_send(int fd, struct iovec *iov, int n);
