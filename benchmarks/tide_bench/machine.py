"""What a result was measured with: machine, system, versions, commit, command, date."""
import datetime
import importlib.metadata
import os
import pathlib
import platform
import shlex
import ssl
import subprocess
import sysconfig

from . import ROOT

PROGRAMS = ("uvicorn", "h11", "httptools", "aiohttp")


def _read(path):
    try:
        return pathlib.Path(path).read_text()
    except OSError:
        return ""


def _cpuinfo(key):
    return next((line.split(":", 1)[1].strip() for line in _read("/proc/cpuinfo").splitlines()
                 if line.partition(":")[0].strip() == key), "")


def _versions(names):
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def _stolen():
    """CPU seconds that other guests of this machine took from us since it started."""
    fields = _read("/proc/stat").partition("\n")[0].split()
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def moment():
    """When, and what else went on."""
    return {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "load": os.getloadavg(), "stolen": _stolen()}


# What a figure depends on: a change of the documentation makes no run another.
MEASURED = ("csrc", "pkg", "benchmarks", "setup.py", "pyproject.toml")


def commit():
    """Of this tree; TIDE_BENCH_COMMIT says it for a copy without git."""
    if told := os.environ.get("TIDE_BENCH_COMMIT"):
        return told

    def git(*words):
        return subprocess.run(["git", "-C", str(ROOT), *words],
                              capture_output=True, text=True).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", *MEASURED)
    return git("describe", "--always") + ("-dirty" if changed else "")


def command(argv, json_path):
    """As it was typed, without directories, which are nobody's business."""
    words = [os.path.basename(w) if w == json_path else w for w in argv[1:]]
    return shlex.join([f"benchmarks/{os.path.basename(argv[0])}", *words])


def describe():
    return {
        "date": datetime.date.today().isoformat(), "began": moment(), "commit": commit(),
        "python": platform.python_version(), "compiler": platform.python_compiler(),
        "configured": sysconfig.get_config_var("CONFIG_ARGS") or "",
        "machine": _cpuinfo("model name") or platform.machine(), "cores": os.cpu_count(),
        "siblings": _read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list").strip(),
        "virtual": "hypervisor" in _cpuinfo("flags").split(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.release(), "libc": " ".join(platform.libc_ver()),
        "openssl": ssl.OPENSSL_VERSION, "programs": _versions(PROGRAMS),
    }


def circumstances(results):
    """A paragraph of reStructuredText."""
    loops = ", ".join(
        f"{name} {version}".strip()
        + (f" (libuv {libuv})" if (libuv := results["builds"].get(name, {}).get("libuv")) else "")
        for name, version in results["loops"].items())
    settled = (f", {results['settle']} where it is close" if results["settle"] else "")
    virtual = " of a virtual machine" if results["virtual"] else ""
    programs = "".join(f", {name} {version}" for name, version in results["programs"].items())
    began, ended = results["began"], results["ended"]
    return (f"{results['date']}, commit {results['commit']}; CPython {results['python']}, "
            f"{results['openssl']}, {results['libc']}, Linux {results['system']}, "
            f"{results['machine']}, {results['cores']} cores{virtual}; {loops}{programs}. "
            f"Medians of {results['rounds']} rounds of {results['seconds']:g} s{settled}, "
            f"malloc {results['malloc']}; load average {began['load'][0]:.1f} before and "
            f"{ended['load'][0]:.1f} after, {ended['stolen'] - began['stolen']:.0f} s of CPU "
            f"stolen. ``{results['command']}``\n")
