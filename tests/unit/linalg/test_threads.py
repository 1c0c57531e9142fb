"""BLAS threads: limited only inside our calls, one for small systems, never more than are free."""

from __future__ import annotations

import io
import os
import signal
import threading

import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import ThreadpoolController, threadpool_limits

import sparselmm as slm
from sparselmm import set_threads
from sparselmm.exceptions import ParameterError
from sparselmm.linalg import threads
from sparselmm.linalg.threads import THREADED_FLOPS, blas_threads, chosen_threads, free_cores

SMALL, LARGE = THREADED_FLOPS / 10, THREADED_FLOPS * 10


@pytest.fixture(autouse=True)
def no_override():
    """Leave no setting behind, and start from none."""
    set_threads(None)
    yield
    set_threads(None)


def now():
    """Return the threads that each BLAS library is set to use."""
    return [library["num_threads"] for library in ThreadpoolController().select(user_api="blas").info()]


@pytest.fixture
def four_threads(monkeypatch):
    """Pretend that the libraries may use four threads on a free machine."""
    controller, _ = threads._controller()
    monkeypatch.setattr(threads, "_controller", lambda: (controller, 4))
    monkeypatch.setattr(threads, "free_cores", lambda: 4)
    with threadpool_limits(limits=2, user_api="blas"):
        yield


def test_small_systems_get_one_thread_and_large_ones_those_that_are_free(four_threads, monkeypatch):
    assert now()  # a BLAS library is loaded, or nothing is tested here
    with blas_threads(SMALL) as n:
        assert n == 1
        assert set(now()) == {1}
    with blas_threads(LARGE) as n:
        assert n == 4
    monkeypatch.setattr(threads, "free_cores", lambda: 3)
    assert chosen_threads(LARGE) == 3
    monkeypatch.setattr(threads, "free_cores", lambda: 64)
    assert chosen_threads(LARGE) == 4, "never more than the library is set to"


def test_limits_are_restored_after_an_exception(four_threads):
    before = now()
    assert set(before) == {2}

    def fail(error):
        with blas_threads(SMALL):
            assert set(now()) == {1}
            raise error

    for error in (ValueError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            fail(error)
        assert now() == before


def test_limits_nest(four_threads):
    """A call inside another leaves the outer one's limit as it was, and the outer one what was before it."""
    set_threads(3)
    with blas_threads(LARGE):
        with blas_threads(SMALL):
            pass
        assert set(now()) == {3}
    assert set(now()) == {2}


def test_limits_hold_in_every_thread(four_threads):
    """threadpoolctl heeds one thread at a time; which one came first must not matter."""
    seen = {}

    def work(name):
        with blas_threads(SMALL):
            seen[name] = set(now())
        seen[name, "after"] = set(now())

    with blas_threads(LARGE):
        pass
    for name in ("first", "second"):
        thread = threading.Thread(target=work, args=(name,))
        thread.start()
        thread.join()
    work("main")
    assert seen == {
        (n, "after") if late else n: {2 if late else 1} for n in ("first", "second", "main") for late in (0, 1)
    }


@pytest.mark.parametrize("flops", [SMALL, LARGE])
def test_the_user_decides(four_threads, flops):
    set_threads(2)
    with blas_threads(flops) as n:
        assert n == 2
        assert set(now()) == {2}
    set_threads(None)
    assert chosen_threads(SMALL) == 1


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True])
def test_nonsense_is_refused_and_changes_nothing(n):
    set_threads(3)
    with pytest.raises(ParameterError, match="positive integer"):
        set_threads(n)
    assert chosen_threads(SMALL) == 3


def loads(monkeypatch, text, cores=8):
    """Make /proc/loadavg say ``text`` on a machine of so many cores."""

    def fake_open(path, **_options):
        assert path == "/proc/loadavg"
        if text is None:
            raise FileNotFoundError(path)
        return io.StringIO(text)

    monkeypatch.setattr(threads, "open", fake_open, raising=False)
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _pid: set(range(cores)), raising=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.52 0.58 0.59 1/467 12345\n", 8),  # this process alone
        ("4.52 0.58 0.59 4/467 12345\n", 5),  # three others; the averages of the past do not matter
        ("99.0 0.58 0.59 20/467 12345\n", 1),
        (None, 8),
        ("", 8),
        ("nonsense", 8),
        ("a b c d/e f", 8),
    ],
)
def test_free_cores(monkeypatch, text, expected):
    loads(monkeypatch, text)
    assert free_cores() == expected


def test_affinity_counts_not_the_machine(monkeypatch):
    loads(monkeypatch, "0.1 0.1 0.1 1/100 1\n", cores=2)
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 64)
    assert free_cores() == 2


def test_fits_that_overlap_in_time_restore_the_limits(four_threads):
    """Two fits in two threads: the first to start is the first to end."""
    before = now()
    first, second = blas_threads(SMALL), blas_threads(SMALL)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert now() == before


def test_an_interruption_leaves_no_wish_behind(four_threads, monkeypatch):
    controller, _ = threads._controller()

    class Interrupted:
        lib_controllers = controller.lib_controllers

        def limit(self, limits):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threads, "_controller", lambda: (Interrupted(), 4))
        with pytest.raises(KeyboardInterrupt), blas_threads(SMALL):
            pass
    with blas_threads(LARGE) as n:
        assert n == 4
        assert set(now()) == {4}
    assert set(now()) == {2}


def test_the_innermost_call_decides_for_its_thread(four_threads):
    with blas_threads(SMALL):
        assert set(now()) == {1}
        with blas_threads(LARGE) as n:
            assert n == 4
            assert set(now()) == {4}
        assert set(now()) == {1}
    assert set(now()) == {2}


def test_the_smallest_wish_of_all_threads_holds(four_threads):
    inside, leave = threading.Event(), threading.Event()

    def other():
        with blas_threads(SMALL):
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with blas_threads(LARGE):
        thread.start()
        assert inside.wait(10)
        assert set(now()) == {1}
        leave.set()
        thread.join()
        assert set(now()) == {4}


def test_a_call_inside_another_tells_the_libraries_nothing(four_threads, monkeypatch):
    with blas_threads(SMALL):
        monkeypatch.setattr(threads, "_control", lambda: pytest.fail("the libraries were told again"))
        for _ in range(3):
            with blas_threads(SMALL) as n:
                assert n == 1
        monkeypatch.undo()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_forked_inside_a_call_can_leave_it(four_threads):
    blocked, go = threading.Event(), threading.Event()

    def hold():
        with threads._limit._lock:
            blocked.set()
            go.wait(10)

    with blas_threads(SMALL):
        holder = threading.Thread(target=hold)
        holder.start()
        assert blocked.wait(10)
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            with blas_threads(LARGE) as n:
                os._exit(0 if n == 4 else 1)
        go.set()
        holder.join()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


DATA = slm.load_dataset("sleepstudy")
CALLS = {
    "lmer": lambda fit: slm.lmer("Reaction ~ Days + (Days | Subject)", DATA),
    "coef_table": lambda fit: fit.coef_table(),
    "kenward_roger": lambda fit: fit.coef_table(ddf="kenward-roger"),
    "anova": lambda fit: fit.anova(),
    "profile": lambda fit: fit.profile(which="sigma"),
    "conf_int": lambda fit: fit.conf_int(method="profile", which="sigma"),
    "ranef": lambda fit: fit.ranef(condvar=True),
    "predict": lambda fit: fit.predict(se=True),
    "influence": lambda fit: fit.influence("Subject"),
    "leverage": lambda fit: fit.leverage(),
    "summary": lambda fit: fit.summary(),
    "emmeans": lambda fit: fit.drop1(),
    "slm.anova": lambda fit: slm.anova(fit, fit.update(". ~ . - Days")),
    "mixedlm": lambda fit: slm.mixedlm("Reaction ~ Days", DATA, groups="Subject").fit(),
    "diagnose": lambda fit: slm.diagnose("Reaction ~ Days + (1 | Subject)", DATA),
    "fit_many": lambda fit: slm.fit_many(fit, DATA[["Reaction"]]),
    "bootstrap": lambda fit: fit.bootstrap(5, seed=1),
}


@pytest.mark.parametrize("name", CALLS)
def test_public_calls_run_with_one_thread(four_threads, monkeypatch, name):
    """Whatever is asked of LAPACK inside a public call: no library may use more than one thread then."""
    fit = slm.lmer("Reaction ~ Days + (Days | Subject)", DATA)
    seen = set()

    def watched(function):
        def call(*args, **kwargs):
            seen.update(now())
            return function(*args, **kwargs)

        return call

    for function in ("eigh", "solve", "svd", "cholesky", "inv", "lstsq", "qr", "eigvalsh"):
        monkeypatch.setattr(np.linalg, function, watched(getattr(np.linalg, function)))
    for function in ("dpotrf", "dtrtrs", "dpotri"):
        monkeypatch.setattr(scipy.linalg.lapack, function, watched(getattr(scipy.linalg.lapack, function)))
    monkeypatch.setattr(scipy.linalg, "solve_triangular", watched(scipy.linalg.solve_triangular))
    CALLS[name](fit)
    assert seen == {1}
    assert set(now()) == {2}
