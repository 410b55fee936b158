"""Database servers for the length of the tests, from Debian's packages."""
import functools
import glob
import importlib.util
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest
import support


@functools.cache
def certificates(folder):
    """CA, certificate and key for 127.0.0.1 and localhost, as files."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    folder = pathlib.Path(folder)
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_pem.write_to_path(folder / "key.pem")
    certificate.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    (folder / "key.pem").chmod(0o600)
    return {name: str(folder / f"{name}.pem") for name in ("ca", "cert", "key")}


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture(scope="module")
def folder():
    # Not pytest's, which nobody else may enter; short, as Unix sockets are in it.
    path = tempfile.mkdtemp(prefix="tidewire-")
    yield path
    shutil.rmtree(path, ignore_errors=True)


def start(command, ready, log, **options):
    """Start a server, and wait until ready() says that it serves."""
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.STDOUT, **options)
    deadline = time.monotonic() + 30 * support.SLOWER
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            process.wait()
            pytest.fail(f"{command[0]} does not start: {pathlib.Path(log).read_text()}")
        time.sleep(0.05)
    return process


def stop(process, number):
    process.send_signal(number)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")     # the suite ends with no child
def postgres(folder):
    """A PostgreSQL: the environment by which a program finds it."""
    if not any(map(importlib.util.find_spec, ("asyncpg", "psycopg"))):
        pytest.skip("no client of PostgreSQL here (asyncpg, psycopg)")
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/postgres"))
    if not found:
        pytest.skip("no PostgreSQL here (Debian: postgresql)")
    programs = os.path.dirname(found[-1])
    options = {"cwd": folder}
    if os.getuid() == 0:                # as whom it does not run
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("no user postgres here")
        options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data = os.path.join(folder, "postgres")
    os.mkdir(data, 0o700)
    files = certificates(folder)
    os.chmod(folder, 0o711)
    for name in ("cert", "key"):
        shutil.copy(files[name], data)
        os.chmod(f"{data}/{name}.pem", 0o600)
    for path in (data, f"{data}/cert.pem", f"{data}/key.pem"):
        if os.getuid() == 0:
            os.chown(path, options["user"], options["group"])
    cluster = os.path.join(data, "cluster")
    subprocess.run([f"{programs}/initdb", "-D", cluster, "-A", "trust", "-U", "tester", "-N",
                    "--encoding=UTF8", "--no-locale"],
                   check=True, stdout=subprocess.DEVNULL, **options)
    port = free_port()
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": data,
                "fsync": "off", "ssl": "on", "ssl_cert_file": f"{data}/cert.pem",
                "ssl_key_file": f"{data}/key.pem", "max_connections": "40"}
    command = [f"{programs}/postgres", "-D", cluster]
    for name, value in settings.items():
        command += ["-c", f"{name}={value}"]

    def ready():
        return subprocess.run([f"{programs}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
                              ).returncode == 0

    process = start(command, ready, f"{folder}/postgres.log", **options)
    yield {"DB_HOST": "127.0.0.1", "DB_PORT": str(port), "DB_FOLDER": data, "DB_CA": files["ca"]}
    stop(process, signal.SIGINT)


@pytest.fixture(scope="module")     # the suite ends with no child
def redis(folder):
    """A Redis: the environment by which a program finds it."""
    pytest.importorskip("redis")
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("no Redis here (Debian: redis-server)")
    files = certificates(folder)
    port, tls_port = free_port(), free_port()
    path = f"{folder}/redis.sock"
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", path,
               "--tls-port", str(tls_port), "--tls-cert-file", files["cert"],
               "--tls-key-file", files["key"], "--tls-ca-cert-file", files["ca"],
               "--tls-auth-clients", "no", "--save", "", "--dir", folder]
    process = start(command, lambda: os.path.exists(path), f"{folder}/redis.log")
    yield {"DB_HOST": "127.0.0.1", "DB_PORT": str(port), "DB_TLS_PORT": str(tls_port),
           "DB_PATH": path, "DB_CA": files["ca"]}
    stop(process, signal.SIGTERM)
