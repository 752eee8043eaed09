import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from ztf_sg.services import retries as retries_module
from ztf_sg.services.errors import (
    BadAnswer,
    NothingFound,
    RefusedRequest,
    ServiceDown,
    Stopped,
    Unreachable,
    UnusableAnswer,
    WrongPassword,
)
from ztf_sg.services.retries import BREAKER_FAULTS, SAME_ANSWERS, Retries, retries_of


def make_retries(**options):
    return Retries(**{"first_wait": 0.001, "longest_wait": 0.01, "patience": 30.0} | options)


class Service:
    """Something that raises the errors given, one a call, and answers when there are none left."""

    def __init__(self, *errors):
        self.errors, self.moments, self.lock = list(errors), [], threading.Lock()

    def __call__(self):
        with self.lock:
            self.moments.append(time.monotonic())
            error = self.errors.pop(0) if self.errors else None
        if error:
            raise error
        return "answer"


class Clock:
    """In place of the module `time`: a clock that goes on when a test says so."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.mark.parametrize("kind", [Unreachable, BadAnswer])
def test_faults_are_asked_again_and_counted(kind):
    service, retries = Service(kind("one"), kind("two")), make_retries()
    assert retries.call(service) == "answer"
    assert len(service.moments) == 3
    assert retries.faults == {kind.__name__: 2}


@pytest.mark.parametrize("kind", [NothingFound, RefusedRequest, WrongPassword, ValueError, KeyboardInterrupt])
def test_anything_else_is_final(kind):
    service, retries = Service(kind("no")), make_retries()
    with pytest.raises(kind):
        retries.call(service)
    assert len(service.moments) == 1
    assert not retries.faults


def test_arguments_are_passed_on():
    assert make_retries().call(divmod, 7, 2) == (3, 1)
    assert make_retries().call(sorted, [1, 3, 2], reverse=True) == [3, 2, 1]


def test_useless_answer_is_final_when_it_has_come_again_and_again():
    service = Service(*[UnusableAnswer("19 x 20 px")] * 9)
    with pytest.raises(UnusableAnswer):
        make_retries(tries=9).call(service)
    assert len(service.moments) == SAME_ANSWERS


def test_service_without_retries_is_asked_once():
    service = Service(Unreachable("no"))
    with pytest.raises(Unreachable):
        retries_of(service).call(service)
    assert len(service.moments) == 1
    service.retries = make_retries()
    assert retries_of(service) is service.retries


def test_last_error_is_raised_as_it_is():
    service = Service(*[Unreachable(f"try {number}") for number in range(9)])
    with pytest.raises(Unreachable, match="try 2$"):
        make_retries(tries=3).call(service)
    assert len(service.moments) == 3


def test_waits_double_up_to_a_limit():
    service, waits = Service(*[Unreachable("no") for _ in range(4)]), []
    retries = make_retries(first_wait=40.0, longest_wait=100.0)
    retries._sleep = waits.append
    retries.call(service)
    for wait, least in zip(waits, (40, 80, 100, 100), strict=True):
        assert least <= wait < least + 40


def test_retry_after_holds_all_threads_back():
    retries, others = make_retries(), Service()
    busy = Service(Unreachable("busy", retry_after=0.25))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(retries.call, busy)
        while not retries._pause_until:
            time.sleep(0.001)
        answers = [pool.submit(retries.call, others) for _ in range(3)]
        assert [task.result() for task in [first, *answers]] == ["answer"] * 4
    assert all(moment - busy.moments[0] >= 0.24 for moment in [busy.moments[1], *others.moments])


def test_service_in_trouble_is_left_alone_for_a_while():
    retries = make_retries(tries=BREAKER_FAULTS + 1, longest_wait=0.15, patience=5)
    service = Service(*[Unreachable("no") for _ in range(BREAKER_FAULTS)])
    assert retries.call(service) == "answer"
    assert service.moments[-1] - service.moments[-2] >= 0.14


def test_service_down_is_asked_few_requests():
    retries = make_retries(longest_wait=0.05, patience=0.3)
    service = Service(*[Unreachable("out of order") for _ in range(10_000)])

    def work():
        while True:
            try:
                retries.call(service)
            except Unreachable:
                continue
            except ServiceDown as error:
                return str(error)

    start = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        messages = [task.result() for task in [pool.submit(work) for _ in range(4)]]
    assert time.monotonic() - start < 15
    assert all("out of order" in message for message in messages)
    assert len(service.moments) < BREAKER_FAULTS + 4 * (0.3 / 0.05 + 2)


def test_answers_in_between_mean_that_the_service_is_not_down():
    retries = make_retries(patience=0.0, tries=3)
    for _ in range(BREAKER_FAULTS):
        assert retries.call(Service(Unreachable("no"), Unreachable("no"))) == "answer"


def test_proper_refusals_in_between_mean_that_the_service_is_not_down():
    retries = make_retries(patience=0.0, tries=3)
    for _ in range(BREAKER_FAULTS):
        with pytest.raises(NothingFound):
            retries.call(Service(Unreachable("no"), Unreachable("no"), NothingFound("404")))


def test_pause_longer_than_patience_is_not_waited_for():
    start = time.monotonic()
    with pytest.raises(ServiceDown, match="busy"):
        make_retries(patience=5).call(Service(Unreachable("busy", retry_after=3600)))
    assert time.monotonic() - start < 60


def test_started_anew_asks_at_once_even_after_a_pause_too_long():
    retries = make_retries(patience=0.3)
    with pytest.raises(ServiceDown):
        retries.call(Service(Unreachable("busy", retry_after=60)))
    retries.start()
    start = time.monotonic()
    assert retries.call(Service()) == "answer"
    assert time.monotonic() - start < 30


def test_stop_ends_waits_and_start_allows_requests_again():
    retries = make_retries(first_wait=60.0, longest_wait=60.0, patience=900)
    service = Service(Unreachable("no"))
    start = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(retries.call, service)
        while not retries.faults:
            time.sleep(0.001)
        retries.stop()
        with pytest.raises(Stopped, match="run it again"):
            waiting.result()
    assert time.monotonic() - start < 30
    assert len(service.moments) == 1
    with pytest.raises(Stopped):
        retries.call(service)
    retries.start()
    assert retries.call(service) == "answer"


def test_pause_that_is_prolonged_meanwhile_is_kept(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(retries_module, "time", clock)
    retries, under_way, end = make_retries(tries=1), threading.Event(), threading.Event()

    def be_told_to_wait_longer():
        under_way.set()
        end.wait(60)
        raise Unreachable("still busy", retry_after=3)

    with ThreadPoolExecutor(1) as pool:
        task = pool.submit(retries.call, be_told_to_wait_longer)
        under_way.wait()
        with pytest.raises(Unreachable):
            retries.call(Service(Unreachable("busy", retry_after=2)))

        def sleep(seconds):
            clock.now += seconds / 2
            end.set()
            assert isinstance(task.exception(), Unreachable)
            clock.now += seconds / 2

        retries._sleep = sleep
        retries.call(lambda: None)
        end.set()
    assert clock.now == 1 + 3
