"""Memory of a process, from /proc."""
import os

PAGE_KIB = os.sysconf("SC_PAGESIZE") // 1024


def resident_kib(pid="self"):
    try:
        with open(f"/proc/{pid}/statm") as statm:
            return int(statm.read().split()[1]) * PAGE_KIB
    except OSError:
        return 0


def peak_kib(pid="self"):
    """Not getrusage's: a child inherits its parent's."""
    try:
        with open(f"/proc/{pid}/status") as status:
            for line in status:
                if line.startswith("VmHWM"):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0
