"""add_reader, add_writer and their removal."""
import os
import socket

import pytest

import support


@pytest.fixture
def pair():
    a, b = support.socketpair()
    yield a, b
    a.close()
    b.close()


def until(loop, predicate, timeout=5):
    """Run the loop until predicate() holds."""
    import asyncio

    async def main():
        deadline = loop.time() + timeout
        while not predicate():
            assert loop.time() < deadline
            await asyncio.sleep(0.0005)
    loop.run_until_complete(main())


def spin(loop, n=5):
    loop.run_until_complete(support.io_turns(n))


@pytest.mark.parametrize("as_object", [False, True])
def test_reader(loop, pair, as_object):
    a, b = pair
    what = b if as_object else b.fileno()
    seen = []
    loop.add_reader(what, lambda *args: seen.append((args, b.recv(10))), 1, 2)
    spin(loop)
    assert seen == []
    a.send(b"x")
    until(loop, lambda: seen)
    assert seen == [((1, 2), b"x")]
    assert loop.remove_reader(what) is True
    assert loop.remove_reader(what) is False
    a.send(b"y")
    spin(loop)
    assert len(seen) == 1


@pytest.mark.parametrize("as_object", [False, True])
def test_writer(loop, pair, as_object):
    a, b = pair
    what = a if as_object else a.fileno()
    seen = []
    loop.add_writer(what, seen.append, 1)
    until(loop, lambda: len(seen) > 2)
    assert loop.remove_writer(what) is True
    assert loop.remove_writer(what) is False
    count = len(seen)
    spin(loop)
    assert len(seen) == count


def test_fd_and_object_are_the_same(loop, pair):
    a, b = pair
    loop.add_reader(b, print)
    assert loop.remove_reader(b.fileno()) is True
    loop.add_reader(b.fileno(), print)
    assert loop.remove_reader(b) is True


def test_returns(loop, pair):
    a, b = pair
    assert loop.add_reader(b, print) is None
    assert loop.add_writer(b, print) is None
    assert loop.remove_reader(b) is True
    assert loop.remove_writer(b) is True


def test_replace(loop, pair):
    a, b = pair
    seen = []
    loop.add_reader(b, seen.append, "first")
    loop.add_reader(b, lambda: (seen.append("second"), b.recv(10)))
    a.send(b"x")
    until(loop, lambda: seen)
    spin(loop)
    assert seen == ["second"]
    loop.remove_reader(b)


@pytest.mark.parametrize("which", ["reader", "writer"])
def test_a_replaced_handle_is_cancelled(loop, pair, which):
    _, b = pair
    add, remove = getattr(loop, f"_add_{which}"), getattr(loop, f"_remove_{which}")
    first = add(b.fileno(), print)
    second = add(b.fileno(), print)
    assert first.cancelled() and not second.cancelled()
    assert remove(b.fileno()) and second.cancelled()


def test_level_triggered(loop, pair):
    """It is called again while there is something to read."""
    a, b = pair
    seen = []
    loop.add_reader(b, lambda: seen.append(b.recv(1)))
    a.send(b"abc")
    until(loop, lambda: len(seen) == 3)
    assert seen == [b"a", b"b", b"c"]
    loop.remove_reader(b)


def test_reader_and_writer_of_one_descriptor(loop, pair):
    a, b = pair
    seen = []
    loop.add_reader(b, lambda: seen.append(b.recv(10)))
    loop.add_writer(b, lambda: (seen.append("w"), loop.remove_writer(b)))
    until(loop, lambda: "w" in seen)
    a.send(b"x")
    until(loop, lambda: b"x" in seen)
    assert seen == ["w", b"x"]
    assert loop.remove_reader(b)


def test_remove_the_writer_in_the_reader(loop, pair):
    a, b = pair
    seen = []

    def reader():
        b.recv(10)
        seen.append("r")
        loop.remove_writer(b)
        loop.remove_reader(b)

    a.send(b"x")
    loop.add_reader(b, reader)
    loop.add_writer(b, seen.append, "w")
    until(loop, lambda: "r" in seen)
    count = len(seen)
    spin(loop)
    assert len(seen) == count


def test_remove_another_that_is_due_as_well(loop):
    """Removed by a callback of the same turn, it is not called."""
    a1, b1 = support.socketpair()
    a2, b2 = support.socketpair()
    seen = []

    def callback(me, other):
        seen.append(me)
        loop.remove_reader(me)
        loop.remove_reader(other)

    loop.add_reader(b1, callback, b1, b2)
    loop.add_reader(b2, callback, b2, b1)
    a1.send(b"x")
    a2.send(b"x")
    spin(loop)
    assert len(seen) == 1
    for sock in a1, b1, a2, b2:
        sock.close()


def test_add_in_callback(loop, pair):
    a, b = pair
    seen = []

    def first():
        seen.append("first")
        loop.add_reader(b, second)

    def second():
        seen.append("second")
        b.recv(10)

    loop.add_reader(b, first)
    a.send(b"x")
    until(loop, lambda: len(seen) == 2)
    assert seen == ["first", "second"]
    loop.remove_reader(b)


def test_exceptions_are_reported(loop, pair, errors):
    a, b = pair

    def fail():
        b.recv(10)
        raise ZeroDivisionError

    loop.add_reader(b, fail)
    a.send(b"x")
    until(loop, lambda: errors)
    (context,) = errors.take()
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["message"].startswith("Exception in callback")
    a.send(b"x")                # it is still watched
    until(loop, lambda: errors)
    errors.clear()
    loop.remove_reader(b)


def test_blocking_mode_is_left_alone(loop):
    a, b = socket.socketpair()
    r, w = os.pipe()
    with a, b:
        for what, fd in (b, b.fileno()), (r, r):
            assert os.get_blocking(fd)
            loop.add_reader(what, print)
            spin(loop, 2)
            assert os.get_blocking(fd)
            loop.remove_reader(what)
            spin(loop, 2)
            assert os.get_blocking(fd)
        loop.add_writer(w, loop.remove_writer, w)
        spin(loop, 2)
        assert os.get_blocking(w)
        assert a.getblocking() and a.gettimeout() is None
    os.close(r)
    os.close(w)


def test_pipes(loop):
    r, w = os.pipe()
    seen = []
    loop.add_reader(r, lambda: seen.append(os.read(r, 10)))
    os.write(w, b"x")
    until(loop, lambda: seen)
    os.close(w)
    until(loop, lambda: len(seen) > 1)
    assert seen[:2] == [b"x", b""]
    loop.remove_reader(r)
    os.close(r)


def test_writer_whose_reader_is_gone(loop):
    r, w = os.pipe()
    seen = []
    loop.add_writer(w, lambda: (seen.append(1), loop.remove_writer(w)))
    os.close(r)
    until(loop, lambda: seen)
    os.close(w)


def test_hang_up_wakes_reader_and_writer(loop):
    """asyncio calls both: neither may wait for ever."""
    a, b = support.socketpair()
    seen = set()
    loop.add_reader(b, lambda: (seen.add("r"), loop.remove_reader(b)))
    loop.add_writer(b, lambda: (seen.add("w"), loop.remove_writer(b)))
    a.close()
    until(loop, lambda: seen == {"r", "w"})
    b.close()


def test_other_objects(loop):
    """eventfd, timerfd-like things, ttys: whatever epoll takes."""
    if hasattr(os, "eventfd"):
        fd = os.eventfd(0)
        seen = []
        loop.add_reader(fd, lambda: seen.append(os.eventfd_read(fd)))
        os.eventfd_write(fd, 3)
        until(loop, lambda: seen)
        assert seen == [3]
        loop.remove_reader(fd)
        os.close(fd)
    leader, follower = os.openpty()
    seen = []
    loop.add_reader(leader, lambda: seen.append(os.read(leader, 100)))
    os.write(follower, b"hi\n")
    until(loop, lambda: b"hi" in b"".join(seen))
    loop.remove_reader(leader)
    os.close(leader)
    os.close(follower)


def test_regular_file_is_refused(loop, tmp_path):
    """epoll does not take them; asyncio raises PermissionError."""
    with open(tmp_path / "f", "w+") as file:
        with pytest.raises(PermissionError):
            loop.add_reader(file, print)
        with pytest.raises(PermissionError):
            loop.add_writer(file.fileno(), print)
        assert loop.remove_reader(file) is False
        assert loop.remove_writer(file) is False


@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero", "/"])
def test_file_without_a_poll_is_refused_at_once(loop, name):
    """Programs ask that way whether stdin, /dev/null in a daemon, can be watched."""
    fd = os.open(name, os.O_RDONLY)
    for add in loop.add_reader, loop.add_writer:
        with pytest.raises(PermissionError):
            add(fd, print)
    assert not loop.remove_reader(fd)
    assert not loop.remove_writer(fd)
    os.close(fd)


def test_regular_file_that_has_a_poll(loop):
    """Some of those that the kernel makes: /proc/mounts is always readable."""
    seen = []
    with open("/proc/self/mounts", "rb", buffering=0) as file:
        loop.add_reader(file, seen.append, 1)
        until(loop, lambda: seen)
        assert loop.remove_reader(file)


def test_closed_descriptor_is_refused(loop):
    r, w = os.pipe()
    os.close(r)
    os.close(w)
    with pytest.raises(OSError):
        loop.add_reader(r, print)
    with pytest.raises(OSError):
        loop.add_writer(w, print)


@pytest.mark.parametrize("what", [-1, -100, "text", None, 1.5, object()])
def test_wrong_descriptors(loop, what):
    for method in (loop.remove_reader, loop.remove_writer,
                   lambda x: loop.add_reader(x, print),
                   lambda x: loop.add_writer(x, print)):
        with pytest.raises(ValueError, match="[Ii]nvalid file"):
            method(what)


def test_closed_socket_object(loop, pair):
    a, b = pair
    b.close()
    with pytest.raises(ValueError):
        loop.add_reader(b, print)


def test_descriptor_of_a_transport_is_refused(loop, run):
    async def main():
        transport, protocol, peer = await support.connected("tcp")
        fd = transport.get_extra_info("socket").fileno()
        for call in (lambda: loop.add_reader(fd, print),
                     lambda: loop.add_writer(fd, print),
                     lambda: loop.remove_reader(fd),
                     lambda: loop.remove_writer(fd)):
            with pytest.raises(RuntimeError, match="is used by transport"):
                call()
        sock = transport.get_extra_info("socket")
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(sock, print)
        await support.close(protocol)
        peer.close()

    run(main())


def test_descriptor_of_a_closed_transport_is_free(loop, run):
    async def main():
        transport, protocol, peer = await support.connected("tcp")
        fd = transport.get_extra_info("socket").fileno()
        await support.close(protocol)
        await support.turns()
        peer.close()
        return fd

    fd = run(main())
    r, w = os.pipe()
    if r == fd or w == fd:
        loop.add_reader(r, print)
        loop.remove_reader(r)
    os.close(r)
    os.close(w)


def test_closed_loop(make_loop, pair):
    a, b = pair
    loop = make_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_reader(b, print)
    with pytest.raises(RuntimeError, match="closed"):
        loop.add_writer(b, print)


def test_remove_on_a_closed_loop(make_loop, pair):
    a, b = pair
    loop = make_loop()
    loop.add_reader(b, print)
    loop.close()
    loop.remove_reader(b)
    loop.remove_writer(b)


def test_close_with_watchers(make_loop, pair):
    a, b = pair
    loop = make_loop()
    loop.add_reader(b, print)
    loop.add_writer(b, print)
    spin(loop, 1)
    loop.remove_writer(b)
    loop.close()
    a.send(b"x")
    assert b.recv(10) == b"x"


def test_callbacks_are_let_go(loop, pair):
    import gc
    import weakref

    class Thing:
        def __call__(self):
            pass

    a, b = pair
    thing = Thing()
    ref = weakref.ref(thing)
    loop.add_reader(b, thing)
    del thing
    gc.collect()
    assert ref() is not None
    loop.remove_reader(b)
    gc.collect()
    assert ref() is None


def test_many(loop):
    pairs = [support.socketpair() for _ in range(100)]
    seen = []

    def reader(i):
        seen.append((i, pairs[i][1].recv(10)))

    for i in range(100):
        loop.add_reader(pairs[i][1], reader, i)
    for i in range(0, 100, 3):
        pairs[i][0].send(b"%d" % i)
    until(loop, lambda: len(seen) == 34)
    assert sorted(seen) == [(i, b"%d" % i) for i in range(0, 100, 3)]
    for a, b in pairs:
        loop.remove_reader(b)
        a.close()
        b.close()


def test_add_and_remove_without_a_poll_between(loop, pair):
    a, b = pair
    for _ in range(100):
        loop.add_reader(b, print)
        assert loop.remove_reader(b)
    seen = []
    loop.add_reader(b, lambda: seen.append(b.recv(10)))
    a.send(b"x")
    until(loop, lambda: seen)
    loop.remove_reader(b)


def test_reused_number_after_removal(loop):
    """Remove, close, open another with the same number, add."""
    for _ in range(20):
        a, b = support.socketpair()
        seen = []
        loop.add_reader(b, lambda b=b: seen.append(b.recv(10)))
        a.send(b"x")
        until(loop, lambda: seen)
        loop.remove_reader(b)
        a.close()
        b.close()


def test_standard_streams(loop, script):
    out = script("""
        r, w = os.pipe()
        os.dup2(r, 0)
        loop = new_loop()
        def reader():
            print(os.read(0, 10), os.get_blocking(0))
            loop.remove_reader(0)
            loop.stop()
        loop.add_reader(sys.stdin, reader)
        os.write(w, b"x")
        loop.run_forever()
        loop.close()
        print(os.get_blocking(0))
    """)
    assert out == ["b'x' True", "True"]


@pytest.mark.parametrize("number", [-1, -2**31, -2**40, -2**70])
@pytest.mark.parametrize("name", ["add_reader", "add_writer", "remove_reader", "remove_writer"])
def test_negative_numbers_are_no_descriptors(loop, name, number):
    args = (print,) if name.startswith("add") else ()
    with pytest.raises(ValueError, match=f"Invalid file descriptor: {number}"):
        getattr(loop, name)(number, *args)


@pytest.mark.parametrize("number", [2**31, 2**40, 2**70])
@pytest.mark.parametrize("name", ["reader", "writer"])
def test_numbers_too_large_for_descriptors(loop, name, number):
    with pytest.raises(OverflowError):
        getattr(loop, "add_" + name)(number, print)
    assert getattr(loop, "remove_" + name)(number) is False
