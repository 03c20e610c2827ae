"""Records what Python's generators do with random programs and scripts, for tests/generator_traces.rs.

    python3.13 record.py > traces.txt

A line is `program | script | trace`. A program is a sequence of

    y3        x = yield 3, noted as g4 (4 was sent) or g (nothing was)
    r5        return 5 (a program that falls off its end returns 0)
    xA        raise A (A and B are exceptions, S is StopIteration, X is GeneratorExit)
    f(p)      yield from p, noted as d and what it returned
    t(p)(q)   try p except A or B: q, noted as h and the exception
    e(p)(q)   try p except GeneratorExit: q, noted as hX
    i(p)(q)   try p except RuntimeError: q, noted as hI or hP

A script is a sequence of n (next), s4 (send 4), tA (throw A), c (close). The trace has notes and outcomes in
their order: y3, r5, eA; eJ (sent to when just started), eI (ignored GeneratorExit), eP (raised StopIteration),
eF (resumed after its end); c or c5 (closed, and what it returned: CPython 3.13 on). What comes after the dot is
from the generator's finalizer.
"""

import gc
import random
import sys


class A(Exception):
    pass


class B(Exception):
    pass


EXCEPTIONS = {"A": A, "B": B, "S": StopIteration, "X": GeneratorExit}


def name(exception):
    """The trace's letter for an exception."""
    if isinstance(exception, TypeError) and "just-started" in str(exception):
        return "J"
    if isinstance(exception, RuntimeError):
        return {"generator ignored GeneratorExit": "I", "generator raised StopIteration": "P"}[
            str(exception)
        ]
    return {A: "A", B: "B", StopIteration: "F", GeneratorExit: "X"}[type(exception)]


def source(program, indent, functions):
    """The lines of a block; the functions that it delegates to go to `functions`."""
    pad = "    " * indent
    lines = []
    for kind, *rest in program:
        if kind == "y":
            lines += [
                f"{pad}sent = yield {rest[0]}",
                f"{pad}trace.append('g' if sent is None else f'g{{sent}}')",
            ]
        elif kind == "r":
            lines.append(f"{pad}return {rest[0]}")
        elif kind == "x":
            lines.append(f"{pad}raise EXCEPTIONS['{rest[0]}']")
        elif kind == "f":
            called = function(rest[0], functions)
            lines += [
                f"{pad}returned = yield from {called}()",
                f"{pad}trace.append(f'd{{returned}}')",
            ]
        else:
            caught = {"t": "(A, B)", "e": "GeneratorExit", "i": "RuntimeError"}[kind]
            lines += [f"{pad}try:", *source(rest[0], indent + 1, functions)]
            lines += [
                f"{pad}except {caught}:",
                f"{pad}    trace.append(f'h{{name(sys.exception())}}')",
            ]
            # A variable for the exception would be a cycle, and keep abandoned generators for the collector.
            lines += source(rest[1], indent + 1, functions)
    return [*lines, f"{pad}pass"]


def function(program, functions):
    """Appends the generator function of a program and returns its name."""
    lines = source(program, 1, functions)
    functions.append(
        f"def body{len(functions)}():\n" + "\n".join(lines) + "\n    return 0\n    yield\n"
    )
    return f"body{len(functions) - 1}"


def body(program, trace):
    """The generator of a program."""
    functions = []
    called = function(program, functions)
    namespace = globals() | {"trace": trace}
    exec("\n".join(functions), namespace)
    return namespace[called]()


def outcome(generator, step):
    """Makes one step and says what came of it."""
    kind, argument = step[0], step[1:]
    try:
        if kind == "n":
            return f"y{next(generator)}"
        if kind == "s":
            return f"y{generator.send(int(argument))}"
        if kind == "t":
            return f"y{generator.throw(EXCEPTIONS[argument]())}"
        returned = generator.close()
        return "c" if returned is None else f"c{returned}"
    except StopIteration as exception:
        if kind == "t" and argument == "S" and exception.value is None:
            return "eF"
        return "eF" if exception.value is None else f"r{exception.value}"
    except BaseException as exception:
        return f"e{name(exception)}"


def random_program(rng, depth):
    program = []
    for _ in range(rng.randint(0 if depth else 1, 3)):
        kind = rng.choices("yrxfte", (8, 1, 1, 4 * (depth < 4), 3 * (depth < 4), 2 * (depth < 4)))[
            0
        ]
        if kind in "yr":
            program.append((kind, rng.randint(1, 9)))
        elif kind == "x":
            program.append((kind, rng.choice("AABSX")))
        else:
            parts = 1 if kind == "f" else 2
            program.append((kind, *(random_program(rng, depth + 1) for _ in range(parts))))
    return program


def deep_program(rng, depth):
    """A chain of delegations in which each level may catch what closes it, and yield then."""
    rest = [("y", rng.randint(1, 9))]
    if depth < 5:
        rest = [("f", deep_program(rng, depth + 1)), *rest]
    kind = rng.choice("eeeti ")
    if kind == " ":
        return rest
    handlers = [
        [],
        [("y", rng.randint(1, 9))],
        [("x", rng.choice("AX"))],
        [("r", 3)],
        [("f", [("e", [("y", 8)], [("y", 9)])])],
    ]
    if kind == "e" and rng.random() < 0.5:
        rest = [("i", rest, rng.choice(handlers))]
    return [(kind, rest, rng.choice(handlers)), *rng.choice(([], [("y", rng.randint(1, 9))]))]


def text(program):
    """The program as a line has it."""
    words = []
    for kind, *rest in program:
        words.append(
            kind + (str(rest[0]) if kind in "yrx" else "".join(f"({text(part)})" for part in rest))
        )
    return " ".join(words)


def main():
    rng = random.Random(5)
    seen = set()
    while len(seen) < 3000:
        deep = len(seen) % 2 == 1
        program = deep_program(rng, rng.randint(0, 3)) if deep else random_program(rng, 0)
        weights = (8, 1, 5, 4) if deep else (8, 3, 3, 1)
        script = [
            step
            + (
                rng.choice("AABSX")
                if step == "t"
                else str(rng.randint(1, 9))
                if step == "s"
                else ""
            )
            for step in rng.choices("nstc", weights, k=rng.randint(2, 9))
        ]
        line = f"{text(program)} | {' '.join(script)}"
        if line in seen:
            continue
        seen.add(line)
        trace = []
        generator = body(program, trace)
        for step in script:
            answer = outcome(generator, step)
            trace.append(answer)
        trace.append(".")
        del generator  # its finalizer closes it
        gc.collect(
            0
        )  # a handler's traceback may hold the frame of an abandoned delegate in a cycle
        sys.stdout.write(f"{line} | {' '.join(trace)}\n")


if __name__ == "__main__":
    sys.unraisablehook = lambda _: None
    gc.disable()  # finalizers run when the program says so
    main()
