/* The SSL objects that OpenSSL makes on this thread during a call.

   wrap_bio() makes one (a subclass may make more); we need its address.  The
   hook in libssl.c adds each new one to every open capture of the thread and
   removes those that are freed meanwhile.

   Captures end in any order: a greenlet may wait inside a subclass's
   wrap_bio() while another one makes a connection.  So they are not on the
   stack. */
#pragma once

#include "base/common.h"

typedef struct TwCapture {
    struct TwCapture *next;
    int count;
    void *found[8]; /* SSL *, borrowed */
} TwCapture;

/* A new one, open, to be freed with PyMem_Free(); NULL with MemoryError. */
TwCapture *tw_capture_begin(void);

/* It gets no more objects. */
void tw_capture_end(TwCapture *capture);

/* -- the library, as engine_choice.c sees it ------------------------------ */

/* The verdict of this process: 1 usable; 0 not usable, with the reason (a
   string that stays valid); -1 not examined yet. */
int tw_libssl_verdict(const char **reason);

/* Find and identify the ssl module's libssl: 1; 0 with the reason; -1 with
   an exception.  Use it only after tw_libssl_judge(). */
int tw_libssl_find(PyObject *helpers, const char **reason);

/* Store the probe's result for this process; returns the verdict. */
int tw_libssl_judge(bool good, const char **reason);

/* Is the SSL* of `inner` in the capture, and is it our libssl's?  (`inner`
   is a client of PROTOCOL_TLS_CLIENT.) */
bool tw_libssl_recognises(const TwCapture *capture, PyObject *inner);

const char *tw_libssl_path(void);
