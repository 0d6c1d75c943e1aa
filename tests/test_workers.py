"""Tasks on other processes."""

import math

from tendsto.workers import Failure, run_tasks


class Unreadable:
    """It can be sent, and not be put together again."""

    def __reduce__(self):
        return getattr, (math, "nowhere")


def test_what_a_worker_cannot_load_is_told_and_the_others_go_on():
    unreadable = Unreadable()
    found = dict(run_tasks(str, [unreadable, 1, 2], workers=2))
    assert found[unreadable] == Failure(
        "the worker cannot load what it is to call, or with what: both must be importable"
    )
    assert (found[1], found[2]) == ("1", "2")
