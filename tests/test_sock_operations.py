"""What the `sock_*` calls return: coroutines in everything but the type."""

import asyncio
import collections.abc
import contextlib
import errno
import gc
import inspect
import socket
import weakref

import pytest

from support.net import io_barrier, stream_pair, tcp_pair, turns


@pytest.fixture
def pair():
    near, far = stream_pair()
    with near, far:
        yield near, far


def no_step(operation):
    """Closes an operation that a test only looked at."""
    operation.close()


class TestProtocol:
    async def test_counts_as_a_coroutine(self, loop, pair):
        operation = loop.sock_recv(pair[0], 10)
        assert asyncio.iscoroutine(operation)
        assert inspect.isawaitable(operation)
        assert isinstance(operation, collections.abc.Coroutine)
        no_step(operation)

    async def test_names_itself_in_its_task(self, loop, pair):
        near, far = pair
        task = loop.create_task(loop.sock_recv(near, 10))
        assert "sock_recv" in repr(task)
        far.send(b"x")
        await task

    async def test_does_nothing_before_its_first_step(self, loop, pair):
        near, far = pair
        far.send(b"data")
        await io_barrier(loop)
        no_step(loop.sock_recv(near, 10))
        assert near.recv(10) == b"data"

    async def test_refuses_arguments_in_its_first_step(self, loop, pair):
        operation = loop.sock_recv(pair[0], "10")
        with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
            await operation

    async def test_missing_argument_is_refused_by_the_call(self, loop, pair):
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'n'"):
            loop.sock_recv(pair[0])

    async def test_never_awaited_warns(self, loop, pair, audit):
        loop.sock_recv(pair[0], 10)
        gc.collect()
        audit.take_warning(RuntimeWarning, r"coroutine '.*\.sock_recv' was never awaited")

    async def test_closed_before_its_first_step_does_not_warn(self, loop, pair):
        operation = loop.sock_recv(pair[0], 10)
        operation.close()
        operation.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            operation.send(None)

    async def test_first_send_takes_only_none(self, loop, pair):
        operation = loop.sock_recv(pair[0], 10)
        with pytest.raises(
            TypeError, match="can't send non-None value to a just-started coroutine"
        ):
            operation.send(1)
        no_step(operation)

    async def test_ready_call_ends_in_its_first_step(self, loop, pair):
        near, far = pair
        far.send(b"data")
        await io_barrier(loop)
        with pytest.raises(StopIteration) as caught:
            loop.sock_recv(near, 10).send(None)
        assert caught.value.value == b"data"
        assert caught.value.args == (b"data",)
        with pytest.raises(StopIteration) as caught:
            loop.sock_sendall(near, b"x").send(None)
        assert caught.value.value is None

    async def test_tuple_as_result_stays_one_value(self, loop):
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with receiver:
            receiver.setblocking(False)
            receiver.bind(("127.0.0.1", 0))
            receiver.sendto(b"data", receiver.getsockname())
            with pytest.raises(StopIteration) as caught:
                loop.sock_recvfrom(receiver, 10).send(None)
            assert caught.value.value == (b"data", receiver.getsockname())
            receiver.sendto(b"more", receiver.getsockname())
            assert await loop.sock_recvfrom(receiver, 10) == (b"more", receiver.getsockname())

    async def test_await_delegated_to_by_a_generator(self, loop, pair):
        near, far = pair

        class Receive:
            def __await__(self):
                return (yield from loop.sock_recv(near, 10).__await__())

        task = loop.create_task(asyncio.wait_for(Receive(), None))
        await turns(2)
        far.send(b"data")
        assert await task == b"data"

    async def test_cannot_be_awaited_twice(self, loop, pair):
        near, far = pair
        far.send(b"data")
        operation = loop.sock_recv(near, 10)
        assert await operation == b"data"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            await operation

    async def test_cannot_be_awaited_while_it_is(self, loop, pair):
        near, far = pair
        operation = loop.sock_recv(near, 10)

        async def receive():
            return await operation

        first = loop.create_task(receive())
        await turns(1)
        with pytest.raises(RuntimeError, match="coroutine is being awaited already"):
            await operation
        far.send(b"data")
        assert await first == b"data"

    async def test_throw_before_its_first_step_raises(self, loop, pair):
        operation = loop.sock_recv(pair[0], 10)
        with pytest.raises(KeyError, match="thrown"):
            operation.throw(KeyError("thrown"))
        operation = loop.sock_recv(pair[0], 10)
        with pytest.raises(KeyError):
            operation.throw(KeyError)
        with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
            operation.throw(KeyError)

    async def test_exception_thrown_into_a_waiting_call_ends_it(self, loop, pair):
        near, far = pair
        operation = loop.sock_recv(near, 10)
        waits_for = operation.send(None)
        assert asyncio.isfuture(waits_for)
        with pytest.raises(KeyError, match="thrown"):
            operation.throw(KeyError("thrown"))
        far.send(b"data")
        assert await loop.sock_recv(near, 10) == b"data"

    async def test_waiting_call_is_closed_with_its_coroutine(self, loop, pair):
        near, _ = pair

        async def receive():
            await loop.sock_recv(near, 10)

        coroutine = receive()
        coroutine.send(None)
        coroutine.close()
        assert not inspect.iscoroutine(coroutine.cr_await)


class TestWhoWaits:
    async def test_later_call_takes_the_wait_over(self, loop, pair):
        near, far = pair
        first = loop.create_task(loop.sock_recv(near, 10))
        second = loop.create_task(loop.sock_recv(near, 10))
        await turns(2)
        first.cancel()
        await asyncio.wait([first])
        assert first.cancelled()
        far.send(b"data")
        assert await second == b"data"

    async def test_late_event_does_not_reach_the_next_owner_of_the_number(self, loop, pair):
        near, far = pair
        trigger, pull = stream_pair()
        victim, sender = stream_pair()
        number = near.fileno()
        receive = loop.create_task(loop.sock_recv(near, 10))
        await turns(1)

        def swap():
            # The event for `near` is on its way already: the number must not carry it to `victim`.
            loop.remove_reader(trigger)
            near.close()
            nonlocal successor
            successor = victim.dup()
            assert successor.fileno() == number

        successor = None
        with trigger, pull, victim, sender:
            sender.send(b"not for near")
            loop.add_reader(trigger, swap)
            # The kernel reports descriptors in the order in which they became ready.
            pull.send(b"x")
            far.send(b"for near")
            with pytest.raises(OSError) as caught:
                await receive
            assert caught.value.errno == errno.EBADF
            with successor:
                assert successor.recv(100) == b"not for near"

    # asyncio wakes the task a turn later, and a cancellation that comes in between throws the data away.
    @pytest.mark.loops("antiphon")
    async def test_cancel_in_the_turn_of_the_event_comes_too_late_to_lose_data(self, loop, pair):
        near, far = pair
        trigger, pull = stream_pair()
        with trigger, pull:
            receive = loop.create_task(loop.sock_recv(near, 10))
            await turns(1)
            cancelled = loop.create_future()
            loop.add_reader(
                trigger, lambda: cancelled.done() or cancelled.set_result(receive.cancel())
            )
            # The kernel reports descriptors in the order in which they became ready.
            far.send(b"data")
            pull.send(b"x")
            assert await cancelled is False
            loop.remove_reader(trigger)
            assert await receive == b"data"

    async def test_debug_mode_wakes_tasks_too(self, loop, pair):
        near, far = pair
        loop.set_debug(True)
        loop.slow_callback_duration = 60
        receive = loop.create_task(loop.sock_recv(near, 10))
        await turns(2)
        far.send(b"data")
        assert await receive == b"data"

    async def test_exception_of_the_task_s_step_reaches_its_awaiter(self, loop, pair):
        near, far = pair

        async def fail():
            await loop.sock_recv(near, 10)
            raise LookupError("after the wait")

        failing = loop.create_task(fail())
        await turns(2)
        far.send(b"data")
        with pytest.raises(LookupError, match="after the wait"):
            await failing

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
    def test_exception_that_leaves_the_loop_leaves_it_usable(self, loop, pair, kind):
        near, far = pair

        async def leave():
            await loop.sock_recv(near, 10)
            raise kind

        async def receive():
            return await loop.sock_recv(near, 10)

        leaving = loop.create_task(leave())
        loop.call_soon(far.send, b"data")
        with pytest.raises(kind):
            loop.run_forever()
        assert isinstance(leaving.exception(), kind)
        far.send(b"more")
        assert loop.run_until_complete(receive()) == b"more"

    async def test_buffer_is_free_while_a_receive_waits(self, loop, pair):
        near, far = pair
        buffer = bytearray(4)
        receive = loop.create_task(loop.sock_recv_into(near, buffer))
        await turns(2)
        buffer.extend(bytes(4))
        far.send(b"12345678")
        assert await receive == 8
        assert buffer == b"12345678"

    def test_call_that_waits_dies_with_its_loop(self, loop_factory, pair, audit):
        loop = loop_factory()
        operation = loop.sock_recv(pair[0], 10)
        waits_for = operation.send(None)
        gone = weakref.ref(operation)
        waits_for.add_done_callback(lambda _, kept=operation: None)
        loop.close()
        del operation, waits_for, loop
        gc.collect()
        assert gone() is None


class TestForeignSockets:
    """Sockets of other classes are driven by their own methods."""

    async def test_subclass_receives_and_sends_by_its_own_methods(self, loop):
        class Counting(socket.socket):
            calls = ()

            def recv(self, *args):
                self.calls += ("recv",)
                return super().recv(*args)

            def send(self, data):
                self.calls += ("send",)
                return super().send(bytes(data)[:3])

        near, far = stream_pair()
        with far, Counting(near.family, near.type, near.proto, near.detach()) as counting:
            counting.setblocking(False)
            receive = loop.create_task(loop.sock_recv(counting, 10))
            await turns(2)
            far.send(b"data")
            assert await receive == b"data"
            assert counting.calls == ("recv", "recv")
            await loop.sock_sendall(counting, b"12345678")
            assert counting.calls[2:] == ("send", "send", "send")
            assert far.recv(100) == b"12345678"

    async def test_listener_of_a_subclass_accepts_by_its_own_method(self, loop):
        class Listener(socket.socket):
            def accept(self):
                connection, address = super().accept()
                return connection, ("seen", *address)

        with Listener() as listener:
            listener.setblocking(False)
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            accept = loop.create_task(loop.sock_accept(listener))
            await turns(2)
            with socket.create_connection(listener.getsockname()) as client:
                connection, address = await accept
                with connection:
                    assert address == ("seen", *client.getsockname())
                    assert connection.gettimeout() == 0

    def test_interrupt_in_a_try_leaves_the_loop_and_keeps_the_wait(self, loop):
        class Interrupted(socket.socket):
            tries = 0

            def recv(self, *args):
                self.tries += 1
                if self.tries == 2:
                    raise KeyboardInterrupt
                return super().recv(*args)

        near, far = stream_pair()
        with far, Interrupted(near.family, near.type, near.proto, near.detach()) as interrupted:
            interrupted.setblocking(False)
            receive = loop.create_task(loop.sock_recv(interrupted, 10))
            loop.call_soon(far.send, b"data")
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(receive)
            assert loop.run_until_complete(receive) == b"data"
            assert interrupted.tries == 3

    async def test_exception_of_its_method_is_raised(self, loop):
        class Failing(socket.socket):
            def recv(self, *args):
                raise LookupError("own words")

        with Failing() as failing, pytest.raises(LookupError, match="own words"):
            failing.setblocking(False)
            await loop.sock_recv(failing, 10)


class TestAddresses:
    async def test_unix_peers_are_shown_as_the_socket_module_shows_them(self, loop):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.setblocking(False)
            listener.bind("")
            listener.listen()
            for name in ("", "\0antiphon-test-peer"):
                with socket.socket(socket.AF_UNIX) as client:
                    if name:
                        client.bind(name)
                    client.setblocking(False)
                    await loop.sock_connect(client, listener.getsockname())
                    accepted, address = await loop.sock_accept(listener)
                    with accepted:
                        assert address == accepted.getpeername() == (name.encode() if name else "")
                        assert accepted.family == socket.AF_UNIX

    async def test_ipv6_peer_is_shown_with_all_four_parts(self, loop):
        with socket.socket(socket.AF_INET6) as listener:
            listener.setblocking(False)
            try:
                listener.bind(("::1", 0))
            except OSError as error:
                pytest.skip(f"no IPv6 on this machine: {error}")
            listener.listen()
            with socket.create_connection(listener.getsockname()[:2]) as client:
                accepted, address = await loop.sock_accept(listener)
                with accepted:
                    assert address == client.getsockname()
                    assert accepted.type == socket.SOCK_STREAM
                    assert accepted.proto == listener.proto

    async def test_connected_stream_names_no_sender(self, loop):
        near, far = tcp_pair()
        with near, far:
            far.send(b"data")
            assert await loop.sock_recvfrom(near, 10) == (b"data", None)


class TestConnect:
    # asyncio waits, is told that there is no error, and takes the socket for connected.
    @pytest.mark.loops("antiphon")
    async def test_full_queue_of_a_unix_listener_is_an_error(self, loop):
        with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as clients:
            listener.bind("")
            listener.listen(0)

            def client():
                sock = clients.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                return sock

            while client().connect_ex(listener.getsockname()) == 0:
                pass
            late = client()
            with pytest.raises(BlockingIOError):
                await loop.sock_connect(late, listener.getsockname())
            listener.accept()[0].close()
            await loop.sock_connect(late, listener.getsockname())


class TestLimits:
    async def test_sock_recv_of_nothing_asks_nobody(self, loop, pair):
        assert await loop.sock_recv(pair[0], 0) == b""
        assert await loop.sock_recv_into(pair[0], bytearray()) == 0

    @pytest.mark.parametrize(
        ("call", "words"),
        [
            (lambda loop, sock: loop.sock_recv(sock, -1), "negative buffersize in recv"),
            (lambda loop, sock: loop.sock_recvfrom(sock, -1), "negative buffersize in recvfrom"),
            (
                lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), -1),
                "negative buffersize in recvfrom_into",
            ),
            (
                lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1), 2),
                "nbytes is greater than the length of the buffer",
            ),
        ],
    )
    async def test_sizes_that_cannot_be_are_refused(self, loop, pair, call, words):
        with pytest.raises(ValueError, match=f"^{words}$"):
            await call(loop, pair[0])

    async def test_sock_recv_into_names_what_it_cannot_write(self, loop, pair):
        with pytest.raises(
            TypeError,
            match=r"recv_into\(\) argument 1 must be read-write bytes-like object, not bytes",
        ):
            await loop.sock_recv_into(pair[0], b"x")

    async def test_large_datagram_arrives_whole(self, loop):
        size = 200_000
        near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with near, far:
            near.setblocking(False)
            far.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * size)
            far.send(bytes(size))
            assert len(await loop.sock_recv(near, 10 * size)) == size
            far.send(bytes(size))
            data, _ = await loop.sock_recvfrom(near, 10 * size)
            assert len(data) == size

    async def test_more_than_the_loop_reads_at_once_arrives_in_order(self, loop, pair):
        near, far = pair
        data = bytes(range(256)) * 8192
        send = loop.create_task(loop.sock_sendall(far, data))
        got = bytearray()
        while len(got) < len(data):
            got += await loop.sock_recv(near, 1 << 24)
        await send
        assert got == data
