#!/bin/sh
# Makes .venv-ecosystem with tidewire and the programs that tests/ecosystem runs on it, and
# installs the database servers where that is allowed.  The tests skip what is missing, by name.
set -eu
cd "$(dirname "$0")/.."
export VENV="${VENV:-.venv-ecosystem}"
tools/setup.sh demo

requirements=tests/ecosystem/requirements.txt
stamp=$VENV/.$(cksum <"$requirements" | tr ' ' -)
if [ ! -e "$stamp" ]; then
    echo "tidewire: installing $requirements" >&2
    "$VENV/bin/python" -m pip install -qq --disable-pip-version-check -r "$requirements"
    touch "$stamp"
fi

missing=
command -v redis-server >/dev/null || missing=redis-server
[ -n "$(ls /usr/lib/postgresql/*/bin/postgres 2>/dev/null)" ] || missing="$missing postgresql"
if [ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "tidewire: installing $missing" >&2
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing \
        >/dev/null || echo "tidewire: without $missing" >&2
fi
