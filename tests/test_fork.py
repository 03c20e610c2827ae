"""Loops and `fork`: parent and child must not disturb each other."""

import pytest

from support.children import run_child

# The tests fork inside programs of their own: the tests' process has threads at times, and Python
# rightly warns of forking then.


def test_child_has_no_running_loop_and_the_parent_goes_on(loop_name):
    facts = run_child(
        loop_name,
        """
        async def main():
            read_end, write_end = os.pipe()
            child = os.fork()
            if child == 0:
                try:
                    asyncio.get_running_loop()
                    answer = b"running"
                except RuntimeError as error:
                    answer = str(error).encode()
                os.write(write_end, answer)
                os._exit(0)
            os.close(write_end)
            answer = os.read(read_end, 1000).decode()
            os.close(read_end)
            os.waitpid(child, 0)
            # The parent's loop still has its timers, its descriptors and its entrance for threads.
            await asyncio.sleep(0.001)
            return answer, await asyncio.to_thread(lambda: "thread")

        loop = new_event_loop()
        answer, thread = loop.run_until_complete(main())
        loop.close()
        report(answer=answer, thread=thread)
        """,
    )
    assert facts["answer"] == "no running event loop"
    assert facts["thread"] == "thread"


def test_child_can_make_and_run_a_loop_of_its_own(loop_name):
    facts = run_child(
        loop_name,
        """
        async def exchange():
            loop = asyncio.get_running_loop()
            reader, writer = os.pipe()
            got = loop.create_future()
            loop.add_reader(reader, lambda: got.set_result(os.read(reader, 100)))
            os.write(writer, b"through the pipe")
            answer = await got
            loop.remove_reader(reader)
            await asyncio.sleep(0.001)
            return answer.decode()

        loop = new_event_loop()
        loop.run_until_complete(exchange())
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            own = new_event_loop()
            os.write(write_end, own.run_until_complete(exchange()).encode())
            own.close()
            os._exit(0)
        os.close(write_end)
        answer = os.read(read_end, 1000).decode()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        again = loop.run_until_complete(exchange())
        loop.close()
        report(answer=answer, status=status, again=again)
        """,
    )
    assert facts["answer"] == facts["again"] == "through the pipe"
    assert facts["status"] == 0


# asyncio lets the child use the parent's epoll, and both then steal each other's events.
@pytest.mark.loops("antiphon")
@pytest.mark.parametrize(
    "use",
    [
        "loop.call_soon(print)",
        "loop.call_soon_threadsafe(print)",
        "loop.call_later(1, print)",
        "loop.add_reader(0, print)",
        "loop.run_forever()",
        "loop.run_until_complete(asyncio.sleep(0))",
    ],
)
def test_loop_of_the_parent_gives_the_child_a_clear_error(loop_name, use):
    facts = run_child(
        loop_name,
        f"""
        loop = new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                {use}
                answer = "no error"
            except BaseException as error:
                answer = type(error).__name__ + ": " + str(error)
            os.write(write_end, answer.encode())
            os._exit(0)
        os.close(write_end)
        answer = os.read(read_end, 1000).decode()
        os.waitpid(child, 0)
        # What the child tried has not reached the parent.
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        report(answer=answer)
        """,
    )
    assert facts["answer"].startswith("RuntimeError: ")
    assert "fork" in facts["answer"]


def test_child_that_closes_the_loop_of_the_parent_leaves_it_running(loop_name):
    facts = run_child(
        loop_name,
        """
        loop = new_event_loop()
        watched, other = os.pipe()
        seen = []
        loop.add_reader(watched, lambda: (seen.append(os.read(watched, 10)), loop.stop()))
        child = os.fork()
        if child == 0:
            try:
                loop.close()
            except RuntimeError:
                pass
            os._exit(0)
        os.waitpid(child, 0)
        os.write(other, b"x")
        # The child's close must not have taken the watch out of an epoll that both share.
        loop.call_later(5, loop.stop)
        loop.run_forever()
        loop.close()
        report(seen=len(seen))
        """,
    )
    assert facts["seen"] == 1


@pytest.mark.slow
def test_multiprocessing_by_fork_from_a_running_loop(loop_name):
    facts = run_child(
        loop_name,
        """
        import concurrent.futures, multiprocessing, warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads, from 3.12 on

        def work(number):
            loop = new_event_loop()
            try:
                return loop.run_until_complete(asyncio.sleep(0.001, number * number))
            finally:
                loop.close()

        async def main():
            context = multiprocessing.get_context("fork")
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
                loop = asyncio.get_running_loop()
                return await asyncio.gather(
                    *(loop.run_in_executor(pool, work, number) for number in range(5))
                )

        loop = new_event_loop()
        squares = loop.run_until_complete(main())
        loop.close()
        report(squares=squares)
        """,
    )
    assert facts["squares"] == [0, 1, 4, 9, 16]
