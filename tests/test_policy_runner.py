"""`run`, `Runner`, the policy: the ways in. antiphon's own beside asyncio's, from one body."""

import asyncio
import contextvars
import sys
import warnings

import pytest

from support.children import run_child

has_policies = sys.version_info < (3, 16)
takes_awaitables = sys.version_info >= (3, 14)


@pytest.fixture
def package(loop_name):
    """The module whose `run` and `Runner` are tested."""
    if loop_name == "asyncio":
        return asyncio
    import antiphon

    return antiphon


@pytest.fixture
def expected_class(loop_class):
    return loop_class


async def running_loop():
    return asyncio.get_running_loop()


class TestRun:
    def test_run_gives_the_result_and_closes_the_loop(self, package, expected_class):
        loop = package.run(running_loop())
        assert isinstance(loop, expected_class)
        assert loop.is_closed()

    def test_run_raises_what_main_raised(self, package):
        async def fail():
            raise LookupError("from main")

        with pytest.raises(LookupError, match="^from main$"):
            package.run(fail())

    def test_run_sets_debug_mode(self, package):
        async def debug():
            return asyncio.get_running_loop().get_debug()

        assert package.run(debug(), debug=True) is True
        assert package.run(debug(), debug=False) is False
        assert package.run(debug()) is False

    def test_run_inside_a_loop_is_refused(self, package):
        async def main():
            inner = running_loop()
            try:
                with pytest.raises(
                    RuntimeError,
                    match=r"^asyncio\.run\(\) cannot be called from a running event loop$",
                ):
                    package.run(inner)
            finally:
                inner.close()

        package.run(main())

    def test_run_refuses_what_it_cannot_run(self, package):
        # 3.14 takes any awaitable, and says so.
        kind, words = (
            (TypeError, "^An asyncio.Future, a coroutine or an awaitable is required$")
            if takes_awaitables
            else (ValueError, "^a coroutine was expected, got 42$")
        )
        with pytest.raises(kind, match=words):
            package.run(42)

    def test_run_cancels_what_main_left_behind(self, package):
        log = []

        async def background():
            try:
                await asyncio.Event().wait()
            finally:
                log.append("cancelled")

        async def main():
            asyncio.get_running_loop().left = asyncio.create_task(background())
            await asyncio.sleep(0)

        package.run(main())
        assert log == ["cancelled"]

    def test_run_ends_the_threads_of_the_default_executor(self, package):
        async def main():
            return await asyncio.to_thread(lambda: "worked")

        # The audit of this test sees to it that no thread is left.
        assert package.run(main()) == "worked"

    def test_run_takes_a_loop_factory(self, package, loop_factory):
        made = []

        def factory():
            made.append(loop_factory())
            return made[-1]

        if package is asyncio and sys.version_info < (3, 12):
            coroutine = running_loop()
            with pytest.raises(TypeError, match="loop_factory"):
                package.run(coroutine, loop_factory=factory)
            coroutine.close()
        else:
            assert package.run(running_loop(), loop_factory=factory) is made[0]

    def test_asyncios_runners_take_the_loop_by_its_factory(self, loop_factory, expected_class):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert isinstance(runner.run(running_loop()), expected_class)
        if sys.version_info >= (3, 12):
            assert isinstance(
                asyncio.run(running_loop(), loop_factory=loop_factory), expected_class
            )


class TestRunner:
    def test_runner_keeps_one_loop_and_one_context(self, package, expected_class):
        variable = contextvars.ContextVar("variable", default="default")

        async def change(value):
            before = variable.get()
            variable.set(value)
            return before, asyncio.get_running_loop()

        with package.Runner() as runner:
            loop = runner.get_loop()
            assert isinstance(loop, expected_class)
            assert runner.run(change("one")) == ("default", loop)
            assert runner.run(change("two")) == ("one", loop)
            assert not loop.is_closed()
        assert loop.is_closed()
        assert variable.get() == "default"

    def test_runner_takes_a_context(self, package):
        variable = contextvars.ContextVar("variable", default="default")
        context = contextvars.copy_context()

        async def change():
            variable.set("changed")

        with package.Runner() as runner:
            runner.run(change(), context=context)
        assert context[variable] == "changed"

    def test_closed_runner_refuses(self, package):
        runner = package.Runner()
        runner.run(asyncio.sleep(0))
        runner.close()
        runner.close()
        with pytest.raises(RuntimeError, match="^Runner is closed$"):
            runner.get_loop()

    def test_unused_runner_makes_no_loop(self, package):
        with package.Runner():
            pass

    def test_debug_of_the_runner_is_the_loops(self, package):
        with package.Runner(debug=True) as runner:
            assert runner.get_loop().get_debug() is True

    def test_antiphons_runner_is_asyncios(self, package):
        assert issubclass(package.Runner, asyncio.Runner)


@pytest.mark.skipif(not has_policies, reason="3.16 has no policies")
class TestPolicy:
    @pytest.fixture
    def policy(self, loop_name, package):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # policies go with 3.16
            own = loop_name == "antiphon"
            made = package.EventLoopPolicy() if own else asyncio.DefaultEventLoopPolicy()
            asyncio.set_event_loop_policy(made)
            yield made
            asyncio.set_event_loop_policy(None)

    def test_policy_makes_the_loop_of_asyncio_run(self, policy, expected_class):
        assert isinstance(asyncio.run(running_loop()), expected_class)

    def test_policy_makes_the_loop_of_new_event_loop(self, policy, expected_class):
        loop = asyncio.new_event_loop()
        assert isinstance(loop, expected_class)
        loop.close()

    def test_policy_keeps_the_loop_that_was_set(self, policy, loop):
        asyncio.set_event_loop(loop)
        assert asyncio.get_event_loop() is loop
        asyncio.set_event_loop(None)
        with pytest.raises(RuntimeError, match="There is no current event loop"):
            asyncio.get_event_loop()

    def test_policy_is_asyncios_kind(self, policy):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            assert isinstance(policy, asyncio.AbstractEventLoopPolicy)


def test_importing_and_running_warns_of_nothing(loop_name):
    facts = run_child(
        loop_name,
        """
        async def main():
            return "quiet"

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            report(answer=runner.run(main()))
        """,
        "-W",
        "error",
    )
    assert facts["answer"] == "quiet"
    assert facts["stderr"] == ""


# What antiphon adds to a module of its own.
@pytest.mark.loops("antiphon")
def test_package_names_what_the_documentation_names(package, expected_class):
    assert isinstance(package.__version__, str) and package.__version__
    loop = package.new_event_loop()
    assert type(loop) is package.Loop is expected_class
    loop.close()
    with pytest.raises(AttributeError):
        package.no_such_name
