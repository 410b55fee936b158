"""What add_reader() and the like make of the object they are given: its
fileno(), and that it was closed since."""
import asyncio
import errno
import gc
import os
import socket
import warnings
import weakref

import pytest

import support

names = pytest.mark.parametrize("name", ["add_reader", "add_writer", "remove_reader",
                                         "remove_writer"])
kinds = pytest.mark.parametrize("kind", ["reader", "writer"])


def call(loop, name, what):
    args = (print,) if name.startswith("add") else ()
    return getattr(loop, name)(what, *args)


class Has:
    def __init__(self, answer):
        self.answer = answer

    def fileno(self):
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


class Index:
    def __init__(self, number):
        self.number = number

    def __index__(self):
        return self.number


# -- fileno() ---------------------------------------------------------------

@names
@pytest.mark.parametrize("kind", [OSError, KeyboardInterrupt, SystemExit, ZeroDivisionError,
                                  RuntimeError, asyncio.CancelledError, OverflowError])
def test_exceptions_of_fileno(loop, name, kind):
    with pytest.raises(kind) as caught:
        call(loop, name, Has(kind("mine")))
    assert caught.value.args == ("mine",)


@names
@pytest.mark.parametrize("answer", [AttributeError("a"), TypeError("t"), ValueError("v"),
                                    UnicodeError("u"), None, "text", object(), [1]])
def test_answers_that_are_no_number(loop, name, answer):
    what = Has(answer)
    with pytest.raises(ValueError) as caught:
        call(loop, name, what)
    assert str(caught.value) == f"Invalid file object: {what!r}"


@names
@pytest.mark.parametrize("answer", [-1, -7, -2**70, Index(-1), -1.5])
def test_negative_answers(loop, name, answer):
    number = answer.number if isinstance(answer, Index) else int(answer)
    with pytest.raises(ValueError) as caught:
        call(loop, name, Has(answer))
    assert str(caught.value) == f"Invalid file descriptor: {number}"


@kinds
@pytest.mark.parametrize("make", [Index, str, float, int])
def test_answers_that_int_takes(loop, kind, make):
    a, b = support.socketpair()
    with a, b:
        what = Has(make(a.fileno()))
        assert call(loop, "add_" + kind, what) is None
        assert call(loop, "remove_" + kind, what) is True
        assert call(loop, "remove_" + kind, a) is False


@kinds
def test_answers_that_are_too_large(loop, kind):
    with pytest.raises(OverflowError):
        call(loop, "add_" + kind, Has(2**40))
    assert call(loop, "remove_" + kind, Has(2**40)) is False


@kinds
def test_of_a_closed_loop(make_loop, kind):
    """The object is looked at first, the number's sign last."""
    loop = make_loop()
    loop.close()
    for what in Has(TypeError()), "text":
        for name in "add_", "remove_":
            with pytest.raises(ValueError, match="Invalid file object"):
                call(loop, name + kind, what)
    with pytest.raises(RuntimeError, match="closed"):
        call(loop, "add_" + kind, -1)
    assert call(loop, "remove_" + kind, -1) is False


def test_ensure_no_transport(loop):
    assert loop._ensure_fd_no_transport(-1) is None
    assert loop._ensure_fd_no_transport(Has(2**70)) is None
    with pytest.raises(ValueError, match="Invalid file object"):
        loop._ensure_fd_no_transport(Has(None))
    with pytest.raises(KeyboardInterrupt):
        loop._ensure_fd_no_transport(Has(KeyboardInterrupt()))


# -- closed since -----------------------------------------------------------

@pytest.fixture
def pair():
    a, b = support.socketpair()
    yield a, b
    a.close()
    b.close()


def refuses(loop, name, sock):
    with pytest.raises(ValueError, match="Invalid file descriptor: -1"):
        call(loop, name, sock)


@kinds
@pytest.mark.parametrize("polled", [False, True])
def test_removed_by_the_closed_object(loop, pair, kind, polled):
    a, b = pair
    call(loop, "add_" + kind, a)
    if polled:
        loop.remove_reader(b)
        loop.run_until_complete(support.io_turns(1))
    a.close()
    assert call(loop, "remove_" + kind, a) is True
    refuses(loop, "remove_" + kind, a)
    b.close()
    refuses(loop, "remove_" + kind, b)      # it was never watched


def test_the_other_kind_of_a_closed_object(loop, pair):
    a, b = pair
    loop.add_reader(a, print)
    a.close()
    assert loop.remove_writer(a) is False
    assert loop.remove_reader(a) is True


@pytest.mark.parametrize("by", ["object", "number"])
@pytest.mark.parametrize("first", ["reader", "writer"])
def test_reader_and_writer_of_a_closed_object(loop, pair, first, by):
    """The selector fails to change what it watches, and forgets it."""
    a, b = pair
    number = a.fileno()
    loop.add_reader(a, print)
    loop.add_writer(a, print)
    a.close()
    with pytest.raises(OSError) as caught:
        call(loop, "remove_" + first, a if by == "object" else number)
    assert caught.value.errno == errno.EBADF
    refuses(loop, "remove_reader", a)
    assert loop.remove_reader(number) is False
    assert loop.remove_writer(number) is False


def test_reader_and_writer_of_a_closed_object_whose_number_is_reused(loop, pair):
    a, b = pair
    number = a.fileno()
    loop.add_reader(a, print)
    loop.add_writer(a, print)
    loop.run_until_complete(support.turns(2))
    a.close()
    os.dup2(b.fileno(), number)
    with pytest.raises(FileNotFoundError):
        loop.remove_reader(a)
    assert loop.remove_writer(number) is False
    os.close(number)


def test_watched_by_number_and_removed_by_object(loop, pair):
    """The object that was first named is the one that is known."""
    a, b = pair
    number = a.fileno()
    loop.add_reader(number, print)
    loop.add_reader(a, print)
    a.close()
    refuses(loop, "remove_reader", a)
    assert loop.remove_reader(number) is True


@kinds
def test_added_again_by_the_closed_object(loop, pair, kind):
    """One of the same kind is replaced; one of the other kind cannot be."""
    a, b = pair
    number = a.fileno()
    other = "writer" if kind == "reader" else "reader"
    call(loop, "add_" + kind, a)
    a.close()
    assert call(loop, "add_" + kind, a) is None
    with pytest.raises(OSError) as caught:
        call(loop, "add_" + other, a)
    assert caught.value.errno == errno.EBADF
    assert call(loop, "remove_" + kind, number) is False
    refuses(loop, "add_" + kind, a)


def test_the_object_is_kept_as_long_as_it_is_watched(loop, pair):
    import gc
    import weakref

    class Named:
        def fileno(self):
            return number

    number = pair[0].fileno()
    named = Named()
    ref = weakref.ref(named)
    loop.add_reader(named, print)
    del named
    gc.collect()
    assert ref() is not None
    loop.remove_reader(number)
    gc.collect()
    assert ref() is None


# -- closed before the loop could tell the kernel ---------------------------

@kinds
def test_closed_in_the_callback_that_added_it(loop, run, pair, errors, kind):
    """Nobody is told; it counts as watched."""
    a, b = pair

    async def main():
        number = a.fileno()
        call(loop, "add_" + kind, a)
        a.close()
        await support.io_turns()
        assert call(loop, "remove_" + kind, number) is True
        assert call(loop, "remove_" + kind, number) is False
        await support.io_turns()

    run(main())
    assert not errors


@pytest.mark.tidewire
def test_closed_in_the_callback_and_the_number_watched_anew(loop, run, pair):
    """asyncio's selector does not notice that it is another descriptor."""
    a, b = pair

    async def main():
        r, w = os.pipe()
        number = a.fileno()
        loop.add_reader(a, print)
        a.close()
        await support.io_turns()
        os.dup2(r, number)
        called = asyncio.Event()
        loop.add_reader(number, called.set)
        os.write(w, b"x")
        await asyncio.wait_for(called.wait(), 5)
        loop.remove_reader(number)
        for fd in r, w, number:
            os.close(fd)

    run(main())


@pytest.mark.tidewire
def test_replaced_by_what_cannot_be_watched(loop, run, pair, errors, tmp_path):
    """Known too late for an exception: asyncio's knows nothing at all."""
    a, b = pair

    async def main():
        number = a.fileno()
        with open(tmp_path / "file", "w") as file:
            loop.add_reader(a, print)
            a.close()
            os.dup2(file.fileno(), number)
            await support.io_turns()
            assert loop.remove_reader(number) is False
            os.close(number)

    run(main())
    (context,) = errors.take()
    assert isinstance(context["exception"], PermissionError)
    assert context["message"] == "The descriptor of add_reader() or add_writer() is refused"


# -- objects whose end runs code --------------------------------------------

class Ends(socket.socket):
    """Its end leaves the number open, and watches it again."""

    def watch(self, loop, seen):
        self.loop, self.seen = loop, seen

    def __del__(self):
        number = self.detach()
        self.loop.add_reader(number, self.seen.append, number)


def test_the_end_of_the_object_watches_its_number(loop, run, pair):
    a, b = pair
    seen = []

    async def main():
        number = a.detach()
        sock = Ends(fileno=number)
        sock.watch(loop, seen)
        loop.add_reader(sock, print)
        del sock
        loop.remove_reader(number)
        b.send(b"x")
        await support.io_turns()
        assert seen and set(seen) == {number}
        assert loop.remove_reader(number) is True
        os.close(number)

    run(main())


@names
def test_repr_that_drops_the_transport(loop, run, pair, name):
    """The message names a transport that only the message keeps."""
    a, _ = pair
    kept, refs, lives = [], [], []

    class Named(Has):
        def __repr__(self):
            kept.clear()
            gc.collect()
            lives.append(refs[0]() is not None)
            return "named"

    async def main():
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)
        transport.pause_reading()
        kept.append(transport)
        refs.append(weakref.ref(transport))
        named = Named(a.fileno())
        del transport
        with pytest.raises(RuntimeError, match="File descriptor named is used by transport <"):
            call(loop, name, named)
        left = refs[0]()
        if left is not None:        # asyncio's, in the traceback
            left.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)        # nobody closed it
        run(main())
    assert lives == [True]
