"""Tests of conftest.py: a skip without a written reason fails the run, in one process and in xdist's workers."""

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

SKIPPING = """
import pytest

def test_runs(): pass

def test_asks(): pytest.skip("no network")

@pytest.mark.skip(reason="not today")
def test_marked(): pass

@pytest.mark.xfail(reason="known", strict=True)
@pytest.mark.parametrize("n", [1, 2])
def test_expected(n): assert n > 2
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A suite of its own with this project's conftest and five tests, four of which do not run through."""
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(test_skipping=SKIPPING)
    return pytester


@pytest.mark.parametrize("workers", ["0", "2"])
def test_skip_without_a_reason_fails_the_run(suite: pytest.Pytester, workers: str):
    result = suite.runpytest_subprocess("-n", workers, "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=3, errors=1)
    result.stdout.fnmatch_lines(["*not run: Skipped: no network*", "*only with a line in tests/skips.txt*"])
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_skip_with_a_reason_is_let_through(suite: pytest.Pytester):
    names = ("asks", "marked", "expected")
    lines = [f"test_skipping.py::test_{name}  # proved elsewhere" for name in names]
    suite.path.joinpath("skips.txt").write_text("\n".join(lines), encoding="utf-8")
    result = suite.runpytest_subprocess("-n", "2", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, skipped=2, xfailed=2)
    assert result.ret == pytest.ExitCode.OK


def test_skipped_module_fails_the_run(suite: pytest.Pytester):
    suite.makepyfile(test_module="import pytest\npytest.importorskip('a_module_that_nobody_has')")
    result = suite.runpytest_subprocess("-n", "2", "-p", "no:cacheprovider", "test_module.py")
    result.stdout.fnmatch_lines(["*not run: *a_module_that_nobody_has*"])
    assert result.ret != pytest.ExitCode.OK


def test_line_without_a_reason_is_refused(suite: pytest.Pytester):
    suite.path.joinpath("skips.txt").write_text("test_skipping.py", encoding="utf-8")
    result = suite.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*a reason are missing after 'test_skipping.py'*"])
    assert result.ret != pytest.ExitCode.OK
