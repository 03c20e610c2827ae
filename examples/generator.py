"""A generator that is stepped once more than it yields: the third next() raises StopIteration."""


def run():
    print(1)
    yield
    print(2)
    yield


x = run()
for _ in range(3):
    next(x)
