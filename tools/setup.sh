#!/bin/sh
# Makes .venv with tidewire built in place, installing what the machine lacks.
#
#     tools/setup.sh [demo|dev]      dev (the default) adds the tools for tests, lint and docs,
#                                    and the programs that the tests talk to
#
# PYTHON=/path/to/python chooses the interpreter, VENV=folder the environment.
set -eu
cd "$(dirname "$0")/.."
level=${1:-dev}
venv=${VENV:-.venv}

say() { printf '%s\n' "tidewire: $*" >&2; }

usable() {
    "$1" -c 'import sys
sys.exit(sys.version_info < (3, 11) or sys.implementation.name != "cpython")' 2>/dev/null
}

# A Python that was asked for and will not do gets one sentence, before anything is installed.
check_asked_python() {
    [ -n "${PYTHON:-}" ] || return 0
    command -v "$PYTHON" >/dev/null || {
        case $PYTHON in python3 | python3.*[0-9] | *dbg) return 0 ;; esac    # of a package
        say "there is no $PYTHON here; PYTHON= names a CPython of 3.11 or newer"
        exit 1
    }
    ! usable "$PYTHON" || return 0
    what=$("$PYTHON" -c 'import platform, sys
print("%s %s" % (platform.python_implementation(), sys.version.split()[0]))' 2>/dev/null) ||
        what="no Python that runs"
    say "$PYTHON is $what; tidewire needs CPython 3.11 or newer"
    exit 1
}

find_python() {
    # shellcheck disable=SC2086
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python3.15}; do
        if usable "$candidate"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

# The command that may install packages: nothing if we may not.
apt_get() {
    command -v apt-get >/dev/null || return 0
    if [ "$(id -u)" = 0 ]; then
        echo "env DEBIAN_FRONTEND=noninteractive apt-get"
    elif command -v sudo >/dev/null && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
        echo "sudo DEBIAN_FRONTEND=noninteractive apt-get"
    fi
}

has_header() { echo "#include <$1>" | ${CC:-cc} ${2:+"-I$2"} -E - >/dev/null 2>&1; }

# The package of a Python that is new enough: python3 itself, unless it is there and too old.
packaged_python() {
    case ${PYTHON:-} in python3.*[0-9]) echo "$PYTHON"; return ;; esac
    if command -v python3 >/dev/null && command -v apt-cache >/dev/null; then
        for minor in 14 13 12 11; do
            if apt-cache show "python3.$minor-venv" >/dev/null 2>&1; then
                echo "python3.$minor"
                return
            fi
        done
    fi
    echo python3
}

# One line for each thing that is missing, by its package's name on Debian.
missing() {
    command -v "${CC:-cc}" >/dev/null || echo gcc libc6-dev
    command -v pkg-config >/dev/null || echo pkg-config
    if command -v "${CC:-cc}" >/dev/null; then
        [ "$(uname)" = Linux ] || has_header uv.h || pkg-config --exists libuv 2>/dev/null ||
            echo libuv1-dev
        has_header openssl/ssl.h || pkg-config --exists openssl 2>/dev/null || echo libssl-dev
    else
        echo libssl-dev
    fi
    if [ -z "$python" ]; then
        case ${PYTHON:-} in *dbg) echo python3-dbg ;; esac
        name=$(packaged_python)
        echo "$name $name-dev $name-venv"
        return
    fi
    name=python3
    case $python in /usr/bin/*) name=$("$python" -c \
        'import sys; print("python%d.%d" % sys.version_info[:2])') ;; esac
    include=$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')
    [ -e "$include/Python.h" ] || echo "$name-dev"
    "$python" -c 'import venv, ensurepip' 2>/dev/null || echo "$name-venv"
}

# The same for the programs that the tests use; without one of them its tests skip.
missing_programs() {
    while read -r program package; do
        PATH=$PATH:/usr/sbin:/sbin:$venv/peers/usr/sbin command -v "$program" >/dev/null ||
            [ -e "$program" ] || echo "$package"
    done <<END
/etc/services netbase
curl curl
dig bind9-dnsutils
dnsmasq dnsmasq-base
git git
ip iproute2
nginx nginx
openssl openssl
readelf binutils
ssh-keygen openssh-client
wrk wrk
END
}

# Packages that are there stay as they are.
install() {
    say "installing $*"
    $apt update -qq || say "apt-get update failed, going on"
    $apt install -y -qq --no-install-recommends --no-upgrade "$@" >/dev/null
}

# nginx is unpacked into the environment and not installed: its package starts a server.
unpack_nginx() {
    mkdir -p "$venv/peers"
    (cd "$venv/peers" && apt-get download -qq nginx && dpkg -x nginx_*.deb . &&
        ./usr/sbin/nginx -v) >/dev/null 2>&1
}

explain() {
    cat >&2 <<END

tidewire needs CPython 3.11 or newer with its headers and venv, a C compiler and OpenSSL's
headers; elsewhere than on Linux also libuv.  On this machine these are missing: $*

Install them with the line that fits your system, then run this again:

    apt-get install gcc libc6-dev make pkg-config python3-dev python3-venv libssl-dev
    dnf install gcc make pkgconf python3-devel openssl-devel
    apk add gcc musl-dev make pkgconf python3-dev openssl-dev
    brew install pkg-config python libuv openssl

PYTHON=/path/to/python chooses another interpreter.

END
    exit 1
}

check_asked_python
python=$(find_python)
packages=$(missing | tr '\n' ' ')
apt=$(apt_get)
if [ -n "$packages" ]; then
    [ -n "$apt" ] || explain "$packages"
    # shellcheck disable=SC2086
    install $packages || explain "$packages"
    python=$(find_python)
    packages=$(missing | tr '\n' ' ')
    [ -z "$packages" ] || explain "$packages"
fi

base() { "$1" -c 'import sys; print(sys.base_prefix, sys.version, sys.abiflags)'; }
if ! usable "$venv/bin/python" || {
        [ -n "${PYTHON:-}" ] && [ "$(base "$venv/bin/python")" != "$(base "$python")" ]; }; then
    say "making $venv with $python"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

if [ "$level" = dev ]; then
    programs=$(missing_programs | tr '\n' ' ')
    if [ -n "$programs" ] && [ -n "$apt" ]; then
        installed=$(echo "$programs" | sed 's/nginx //')
        # shellcheck disable=SC2086
        [ -z "$installed" ] || install $installed || true
    fi
    case $programs in *nginx*) unpack_nginx || rm -rf "$venv/peers" ;; esac
    programs=$(missing_programs | tr '\n' ' ')
    [ -z "$programs" ] ||
        say "the tests that need them will skip: apt-get install $programs"
fi

# Requirements are installed again when their file, or what is asked for, changed.
requirements=tools/requirements-dev.txt
[ "$level" = dev ] || requirements=tools/requirements-demo.txt
stamp=$venv/.$(cksum <"$requirements" | tr ' ' -)
if [ ! -e "$stamp" ]; then
    say "installing $requirements"
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check -r "$requirements"
    # What the demonstration compares tidewire with and on; it works without them.
    [ "$level" = dev ] || for peer in $(sed -n '/^\(uvloop\|uvicorn\|httptools\)==/p' \
            tools/requirements-dev.txt); do
        "$venv/bin/python" -m pip install -qq --disable-pip-version-check \
            --only-binary :all: "$peer" 2>/dev/null || say "the demonstration goes without $peer"
    done
    touch "$stamp"
fi

say "building ($("$venv/bin/python" -V))"
installed=$("$venv/bin/python" -c '
import importlib.metadata as m; print(m.version("tidewire"))' 2>/dev/null) || installed=none
if grep -q "\"$installed\"" pkg/tidewire/_version.py; then
    "$venv/bin/python" setup.py -q build_ext --inplace
else
    "$venv/bin/python" -m pip install -qq --disable-pip-version-check --no-build-isolation \
        --no-deps -e .
fi
