"""The lists of CPython tests that cannot pass: each line is true of something that is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LISTS = sorted((ROOT / "conformance" / "expectations").glob("*.txt"))
RELEASES = ["3.11", "3.12", "3.13", "3.14"]
# Private names that reasons cite: the loop's, a transport's, a module's.
PRIVATE_NAME = re.compile(r"\b(?:loop|transport)\._\w+|\basyncio\.\w+\.\w+")


def lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def reasons(file: Path) -> list[str]:
    return [line.partition(" | ")[2] for line in lines(file)]


def test_every_release_has_a_list_and_a_baseline():
    assert {file.stem.removesuffix("-installed") for file in LISTS} == set(RELEASES)
    measured = (ROOT / "conformance" / "baseline").glob("*.txt")
    assert {file.stem.partition("-")[2].rpartition(".")[0] for file in measured} == set(RELEASES)


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_each_line_has_a_test_and_a_reason_of_its_own(file):
    tests = [line.partition(" | ")[0] for line in lines(file)]
    assert len(tests) == len(set(tests))
    assert all(re.fullmatch(r"test_\w+\.\w+\.test_\w+", test) for test in tests)
    assert all(len(reason) > 40 for reason in reasons(file))


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_tests_of_ours_that_reasons_name_are_there(file):
    for reason in reasons(file):
        for name, named in re.findall(r"tests/(\w+\.py)::((?:test_\w+(?: and )?)+)", reason):
            source = (ROOT / "tests" / name).read_text()
            for test in named.split(" and "):
                assert re.search(rf"def {test}\(", source), f"{name} has no {test}"


@pytest.mark.parametrize("file", LISTS, ids=lambda file: file.stem)
def test_documentation_names_every_private_part_that_reasons_name(file):
    documentation = (ROOT / "docs" / "differences.md").read_text()
    cited = {name for reason in reasons(file) for name in PRIVATE_NAME.findall(reason)}
    assert {name for name in cited if name not in documentation} == set()
