"""What the commands have in common: options, and how they end when they cannot go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, NoReturn

import typer

_SECONDS_TO_LEAVE_A_CALLBACK = 0.01

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line.")]
Workers = Annotated[int | None, typer.Option(help="Processes on this machine.", min=1, show_default="one a core")]
Cluster = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Dask scheduler to run on, tcp://host:8786.")]


def cores() -> int:
    """How many processes `--workers` is by default."""
    from joblib import cpu_count

    return int(cpu_count())


def heed_interrupts() -> None:
    """Have every Ctrl-C end what runs.

    JAX hangs a function of Python on the garbage collector, and an exception that is raised there is dropped. Where
    Ctrl-C comes in it, the interrupt is raised again a moment later.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        if frame is None or frame.f_code.co_name != "_xla_gc_callback":
            raise KeyboardInterrupt
        # To the main thread itself, so that it wakes up if it waits by then.
        again = (threading.main_thread().ident, number)
        threading.Timer(_SECONDS_TO_LEAVE_A_CALLBACK, signal.pthread_kill, again).start()

    signal.signal(signal.SIGINT, interrupt)


@contextmanager
def clear_failures(kept: str = "") -> Iterator[None]:
    """Turn what can end a command early into one line; `kept` is said after an interrupt."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"tendsto: interrupted{kept and '; '}{kept}", err=True)
        raise typer.Exit(130) from None
    except typer.Exit:  # it is a RuntimeError, and has been explained
        raise
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        stop(str(error))


def stop(message: str) -> NoReturn:
    """End the command as one that cannot be carried out."""
    typer.echo(f"tendsto: {message}", err=True)
    raise typer.Exit(2)
