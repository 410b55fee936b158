/* USDT probes: marks at which bpftrace, perf and gdb can stop or count, in a
   process that runs.  docs/observability.rst lists them, with recipes.

   Where the build found <sys/sdt.h> (Debian: systemtap-sdt-dev) each is one
   nop instruction and a note in the file; elsewhere it is nothing. */
#pragma once

#if defined(__has_include)
#if __has_include(<sys/sdt.h>)
#include <sys/sdt.h>
#endif
#endif

#ifdef DTRACE_PROBE
#define TW_PROBE1(name, a) DTRACE_PROBE1(tidewire, name, a)
#define TW_PROBE2(name, a, b) DTRACE_PROBE2(tidewire, name, a, b)
#define TW_PROBE3(name, a, b, c) DTRACE_PROBE3(tidewire, name, a, b, c)
#else
#define TW_PROBE1(name, a)
#define TW_PROBE2(name, a, b)
#define TW_PROBE3(name, a, b, c)
#endif
