"""Which callbacks one turn of the loop runs, and in which order."""

import asyncio
import socket
import threading

import pytest

from support.loops import run_ready
from support.net import stream_pair


def test_turn_runs_exactly_what_was_ready_when_it_began(loop):
    ran = []

    def first():
        ran.append("first")
        loop.call_soon(ran.append, "queued by first")
        loop.stop()

    loop.call_soon(first)
    loop.call_soon(ran.append, "second")
    loop.run_forever()
    assert ran == ["first", "second"]
    run_ready(loop)
    assert ran == ["first", "second", "queued by first"]


def test_chain_of_call_soon_takes_one_turn_a_link(loop):
    ran = []

    def link(left):
        ran.append(("link", left))
        if left:
            loop.call_soon(link, left - 1)
            loop.call_soon(ran.append, ("beside", left - 1))

    loop.call_soon(link, 3)
    for _ in range(5):
        run_ready(loop)
    assert ran == [
        ("link", 3),
        ("link", 2),
        ("beside", 2),
        ("link", 1),
        ("beside", 1),
        ("link", 0),
        ("beside", 0),
    ]


def test_call_soon_and_call_soon_threadsafe_of_the_loops_own_thread_share_one_order(loop):
    ran = []
    for number in range(0, 100, 2):
        loop.call_soon(ran.append, number)
        loop.call_soon_threadsafe(ran.append, number + 1)
    run_ready(loop)
    assert ran == list(range(100))


def test_both_entrances_share_one_order_inside_a_running_callback(loop):
    ran = []

    def callback():
        for number in range(0, 10, 2):
            loop.call_soon_threadsafe(ran.append, number)
            loop.call_soon(ran.append, number + 1)
        loop.call_soon(loop.stop)

    loop.call_soon(callback)
    loop.run_forever()
    assert ran == list(range(10))


def test_callbacks_of_another_thread_keep_its_order_beside_those_of_the_loop(loop):
    ran = []

    def entry():
        for number in range(500):
            loop.call_soon_threadsafe(ran.append, ("thread", number))

    def enter_from_another_thread():
        thread = threading.Thread(target=entry)
        thread.start()
        thread.join()
        for number in range(500):
            loop.call_soon(ran.append, ("loop", number))
        loop.call_soon(loop.call_soon, loop.stop)

    loop.call_soon(enter_from_another_thread)
    loop.run_forever()
    assert [number for source, number in ran if source == "thread"] == list(range(500))
    assert [number for source, number in ran if source == "loop"] == list(range(500))


def test_timer_that_came_due_runs_after_what_was_ready(loop):
    ran = []
    loop.call_at(loop.time() - 1, ran.append, "timer")
    loop.call_soon(ran.append, "ready")
    run_ready(loop)
    assert ran == ["ready", "timer"]


def test_descriptor_that_is_ready_runs_before_a_timer_that_is_due(loop):
    ran = []
    near, far = stream_pair()
    with near, far:
        far.send(b"x")
        loop.call_at(loop.time() - 1, ran.append, "timer")
        loop.add_reader(near, ran.append, "reader")
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.remove_reader(near)
    assert ran == ["reader", "timer"]


def test_descriptors_are_served_under_an_endless_chain_of_callbacks(loop):
    near, far = stream_pair()
    served = []

    def chain():
        if not served:
            loop.call_soon(chain)

    def read():
        served.append(near.recv(10))
        loop.stop()

    with near, far:
        loop.add_reader(near, read)
        loop.call_soon(chain)
        loop.call_soon(far.send, b"ping")
        loop.run_forever()
        loop.remove_reader(near)
    assert served == [b"ping"]


@pytest.mark.real_driver("virtual time stands still while callbacks run")
def test_timers_are_served_under_an_endless_chain_of_callbacks(loop):
    fired = []

    def chain():
        if not fired:
            loop.call_soon(chain)

    loop.call_later(0.003, fired.append, True)
    loop.call_soon(chain)
    loop.call_later(0.004, loop.stop)
    loop.run_forever()
    assert fired == [True]


def test_callbacks_are_served_under_a_descriptor_that_is_always_ready(loop):
    near, far = stream_pair()
    ran = []

    def count(left):
        ran.append(left)
        if left:
            loop.call_soon(count, left - 1)
        else:
            loop.stop()

    with near, far:
        loop.add_writer(near, lambda: None)
        loop.call_soon(count, 100)
        loop.run_forever()
        loop.remove_writer(near)
    assert ran == list(range(100, -1, -1))


def test_done_callbacks_run_in_the_order_they_were_added_in_a_later_turn(loop):
    ran = []
    future = loop.create_future()
    for number in range(20):
        future.add_done_callback(lambda _, number=number: ran.append(number))
    future.set_result(None)
    assert ran == []
    run_ready(loop)
    assert ran == list(range(20))


async def test_tasks_take_their_first_steps_in_the_order_of_creation(loop):
    ran = []

    async def worker(number):
        for step in range(3):
            ran.append((step, number))
            await asyncio.sleep(0)

    await asyncio.gather(*(worker(number) for number in range(10)))
    assert ran == [(step, number) for step in range(3) for number in range(10)]


async def test_waiters_of_a_lock_are_served_first_come_first_served(loop):
    ran = []
    lock = asyncio.Lock()

    async def worker(number):
        async with lock:
            ran.append(number)
            await asyncio.sleep(0)

    await lock.acquire()
    tasks = [loop.create_task(worker(number)) for number in range(10)]
    await asyncio.sleep(0)
    lock.release()
    await asyncio.gather(*tasks)
    assert ran == list(range(10))


async def test_answer_to_a_write_arrives_though_the_loop_is_never_idle(loop):
    near, far = socket.socketpair()
    near.setblocking(False)
    far.setblocking(False)
    with near, far:
        busy = True

        async def spin():
            while busy:
                await asyncio.sleep(0)

        spinner = loop.create_task(spin())
        for number in range(50):
            await loop.sock_sendall(far, b"%03d" % number)
            assert await loop.sock_recv(near, 100) == b"%03d" % number
        busy = False
        await spinner
