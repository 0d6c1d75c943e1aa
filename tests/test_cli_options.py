import signal
import subprocess
import sys

import pytest

from tendsto.cli_options import heed_interrupts

# In a process of its own, as the command is: other tests leave callbacks of theirs on the garbage collector.
WITHIN_THE_CALLBACK = """
import functools, gc, signal, threading
import jax
from tendsto.cli_options import heed_interrupts

heed_interrupts()
gc.disable()
jax._src.lib._jax.collect_garbage = functools.partial(next, map(signal.raise_signal, [signal.SIGINT]), None)
gc.collect()
try:
    threading.Event().wait(10)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def _handler():
    before = signal.getsignal(signal.SIGINT)
    heed_interrupts()
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_within_the_garbage_collector_is_not_lost():
    """It comes while JAX's own callback calls into C, where Python drops the exception."""
    done = subprocess.run([sys.executable, "-c", WITHIN_THE_CALLBACK], capture_output=True, text=True)
    assert done.stdout == "interrupted\n", done.stderr


@pytest.mark.usefixtures("_handler")
def test_elsewhere_an_interrupt_is_raised_at_once():
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
