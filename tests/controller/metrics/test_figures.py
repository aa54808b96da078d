import threading

from hypothesis import given
from hypothesis import strategies as st

from dynawatt.controller.metrics.figures import Figures, ServiceFigures, ServiceKey
from dynawatt.controller.metrics.working import Work

from .pictures import LLAMA, Scraped, known

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 2), st.one_of(st.none(), st.integers(0, 9)), st.booleans()),
        st.tuples(st.just("drop"), st.integers(0, 2)),
        st.tuples(st.just("clear")),
    ),
    max_size=40,
)


@given(STEPS)
def test_whatever_happens_desired_replicas_are_the_last_that_were_told(steps):
    figures, wanted = Figures(), {}
    for step in steps:
        match step:
            case ("put", number, replicas, holds):
                figures.put(
                    ServiceKey("ns", str(number)), ServiceFigures(desired_replicas=replicas, holds_desired=holds)
                )
                wanted[str(number)] = replicas if replicas is not None or not holds else wanted.get(str(number))
            case ("drop", number):
                figures.drop(ServiceKey("ns", str(number)))
                wanted.pop(str(number), None)
            case _:
                figures.clear()
                wanted.clear()
    assert {shown.key.name: shown.figures.desired_replicas for shown in figures.shown()} == wanted


def test_scrapes_while_services_come_and_go():
    scraped, stop, errors = Scraped(), threading.Event(), []

    def scrape():
        try:
            while not stop.is_set():
                scraped.text()
        except Exception as error:
            errors.append(error)

    readers = [threading.Thread(target=scrape) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(300):
        key = ServiceKey("ns", str(number % 7))
        scraped.figures.put(key, known(), decided="Steady", held=f"Reason{number}")
        scraped.work.wrote("patch", str(number))
        if number % 3 == 0:
            scraped.figures.drop(key)
    stop.set()
    for reader in readers:
        reader.join()
    assert errors == []


def test_a_scrape_keeps_the_picture_it_has_begun_with():
    figures = Figures()
    figures.put(LLAMA, known(), decided="Steady")
    [before] = figures.shown()
    figures.put(LLAMA, known(desired_replicas=9), decided="Steady")
    assert (before.figures.desired_replicas, before.decisions) == (5, {"Steady": 1})


def test_no_work_is_no_samples_but_a_histogram_of_nothing():
    [plans, writes] = Work().families()
    assert {sample.value for sample in plans.samples} == {0}
    assert writes.samples == []
