/* Pieces of memory into a stream socket, with one system call. */
#pragma once

#include <sys/uio.h>

#include "base/common.h"

/* Bytes that the kernel took of the n > 0 pieces (0: it is full), or a
   negative errno.  Raises no SIGPIPE. */
tw_uverr tw_stream_send(int fd, struct iovec *iov, int n);
