import threading

from dynawatt.sandbox.locking import locked_directory


def test_an_empty_directory_vanishes_and_a_filled_one_stays(tmp_path):
    with locked_directory(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert not (tmp_path / "a" / "b").exists()
    with locked_directory(tmp_path / "a"):
        (tmp_path / "a" / "file").touch()
    assert (tmp_path / "a" / "file").exists()


def test_others_wait_and_then_hold_the_directory_that_exists(tmp_path):
    path = tmp_path / "held"
    waits, held, release = threading.Event(), threading.Event(), threading.Event()
    order = []

    def other():
        with locked_directory(path, waiting=waits.set):
            order.append(("other", path.is_dir()))
            held.set()
            release.wait(10)

    with locked_directory(path):
        thread = threading.Thread(target=other)
        thread.start()
        assert waits.wait(10)
        assert not held.wait(0.1)
        order.append(("first", path.is_dir()))
    assert held.wait(10)
    # The directory was removed while the other waited; what it holds must keep a third one out.
    third_waits = threading.Event()
    third = threading.Thread(target=lambda: _enter(path, third_waits.set))
    third.start()
    assert third_waits.wait(10)
    release.set()
    for each in (thread, third):
        each.join(10)
    assert order == [("first", True), ("other", True)]
    assert not path.exists()


def _enter(path, waiting):
    with locked_directory(path, waiting=waiting):
        pass
