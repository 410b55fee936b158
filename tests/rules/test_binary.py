"""The rules that show in the built extension."""

import re
import shutil
import subprocess

import pytest
import support

from tidewire import _core

# Objects that may be in writable sections: what CPython's own tables need (it takes them
# without const), and what libc and the compiler add.
TABLES = re.compile(r"(^|_)(methods|members|getset|slots|spec|def|module|types|names)$")
COMPILERS = re.compile(r"^(completed\.|__|_DYNAMIC|_GLOBAL|\.|DW\.ref|__compound_literal)")
# Per process by nature: OpenSSL's index and method are registered once.
PER_PROCESS = re.compile(r"^(libssl|tw_tls|engine_openssl)_")


def tool(*command):
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here (binutils)")
    return subprocess.check_output(command, text=True)


def test_one_exported_symbol():
    if support.is_sanitized():
        pytest.skip("the sanitizers export symbols of theirs")
    lines = tool("nm", "-D", "--defined-only", _core.__file__).splitlines()
    assert [line.split()[-1] for line in lines] == ["PyInit__core"]


def test_openssl_is_not_linked():
    needed = tool("readelf", "-d", _core.__file__)
    assert "libuv" in needed or "NEEDED" in needed
    assert "libssl" not in needed and "libcrypto" not in needed


def test_no_mutable_statics():
    if support.is_sanitized():
        pytest.skip("the sanitizers add objects of theirs")
    bad = []
    for line in tool("objdump", "-t", _core.__file__).splitlines():
        match = re.match(r"[0-9a-f]+ .{7} (\.t?(?:data|bss))\s+([0-9a-f]+)\s+(\S.*)$", line)
        if not match or int(match[2], 16) == 0:
            continue
        name = re.sub(r"\.(lto_priv|constprop|part)?\.?\d+.*$", "", match[3].split()[-1])
        if not (TABLES.search(name) or COMPILERS.match(match[3].split()[-1])
                or PER_PROCESS.match(name)):
            bad.append(f"{name} in {match[1]}")
    assert not bad, bad
