"""Talk to Rocq one tactic at a time, through its toplevel in a sandbox; states stay what they are."""

from __future__ import annotations

import os
import re
import secrets
import select
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Literal

from tendsto.assistants import sandbox
from tendsto.assistants.protocol import Failure, Goal, NotInstalled, Opening, State
from tendsto.assistants.rocq import installation, refusal, tool
from tendsto.assistants.sentences import sentences
from tendsto.validation import integer, positive

GRACE = 1.0
"""Seconds between asking Rocq to stop and killing it; the kernel's conversion does not listen."""

REPLAY = 60.0
"""Seconds to lead a process back to a state before a tactic is tried in it."""

BEGIN = 60.0
"""Seconds for Rocq to start on a busy machine."""

LONGEST = 64 * 2**20
"""How many bytes Rocq may say in one answer before it is killed."""

MESSAGE = 500
"""How many characters of an error a failure keeps."""

MESSAGES = 20_000
"""How many characters of what Rocq says as a tactic runs a state keeps."""

PIECE = 2**16
"""How many bytes are read or written at a time."""

_SETTINGS = ("Set Printing Width 4000.", "Set Printing Depth 1000.", "Set Silent.")
_PROMPT = re.compile(rb"<prompt>[^<>]* < ([0-9]+) \|[^<>]*\| [0-9]+ < </prompt>")
_TAG = re.compile(r"</?(?:infomsg|warning)>")
_NUMBER = re.compile(r" \(ID [0-9]+\)")
_ERROR = re.compile(r"^(?:Error:|Anomaly)", re.MULTILINE)
_Kind = Literal["error", "timed out", "crashed"]
_KINDS: dict[_Kind, re.Pattern[str]] = {
    "timed out": re.compile(r"[Tt]imeout!|User interrupt"),
    "crashed": re.compile(r"[Oo]ut of memory|Stack overflow"),
}
_FOCUSED = re.compile(r"([0-9]+) (?:focused )?goals?(?: \(shelved: [0-9]+\))?\n  ")
_IN_FOCUS = "This proof is focused"
_LINE = "  ============================"
_NAME = r"[^\W\d][\w']*"
_HYPOTHESIS = re.compile(rf"^  (?P<names>{_NAME}(?:, {_NAME})*) (?P<what>:=? .*(?:\n   +.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class _Step:
    """A sentence that the process has run, and the number of the state after it."""

    sentence: str
    number: int


class _Unusable(Exception):
    """Rocq's answer is a failure; the process goes on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class _Confused(Exception):
    """There are more or fewer answers than questions.

    What a prover of `hammer` forks and an interrupt then reaches may go on as a second toplevel on the same pipes.
    """


class _Interrupted(Exception):
    """The process was asked to stop and did."""


class _Killed(Exception):
    """The process did not stop when asked, or would not stop talking."""


class _Died(Exception):
    """The process is gone, or does not do what it should."""


class RocqSession:
    """A `ProofSession` with Rocq's toplevel, in a sandbox.

    A state knows the sentences that lead to it. To run a tactic in it, the process goes back to the last of its own
    states that lies on that way (in constant time), runs what is missing, then the tactic. Trying many tactics in
    one state costs no replay, and neither does going from theorem to theorem within a file.

    A tactic that does not end is interrupted, and the process is killed where it does not listen; the next call
    starts another and leads it back.

    **Arguments**

    - `options`: what the file needs on Rocq's command line, `("-Q", "/home/me/project", "Project")`.
    - `directories`: what those options name; readable in the sandbox, with the libraries that are installed.
    - `memory`: address space of the process and of each that it starts (a prover of `hammer`'s), in bytes.

    **Raises** `NotInstalled` without Rocq; `TypeError` or `ValueError` for malformed arguments.
    """

    def __init__(
        self,
        options: Sequence[str] = (),
        *,
        directories: Iterable[str | os.PathLike[str]] = (),
        memory: int = 4 * 2**30,
    ) -> None:
        integer("memory", memory, low=2**26)
        if isinstance(options, str) or not all(isinstance(option, str) for option in options):
            raise TypeError(f"options: expected a sequence of words, got {options!r}")
        toplevel = tool("coqtop")
        if toplevel is None:
            raise NotInstalled("needs Rocq: apt install coq")
        self._command = [toplevel, "-emacs", "-q", "-w", "none", *options]
        places = {str(Path(directory).resolve()) for directory in directories}
        self._sandbox = sandbox.Sandbox(memory=memory, programs=tuple(sorted(places | set(installation(toplevel)))))
        self._process: subprocess.Popen[bytes] | None = None
        self._directory: tempfile.TemporaryDirectory[str] | None = None
        self._steps: list[_Step] = []
        self._root = 0  # the number of the state before the first step
        self._at = 0  # the number of the state that the process is in; 0 if unknown

    def __enter__(self) -> RocqSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        """A copy for another process has none of its own yet."""
        fresh: dict[str, object] = {"_process": None, "_directory": None, "_steps": []}
        return {**self.__dict__, **fresh}

    def close(self) -> None:
        """End the process; the next call starts another."""
        if self._process is not None:
            sandbox.kill(self._process)
        if self._directory is not None:
            self._directory.cleanup()
        self._process, self._directory, self._steps = None, None, []

    def start(self, before: str, statement: str, *, seconds: float = 600.0) -> State | Failure:
        """The state at the beginning of a proof; see `ProofSession.start`.

        **Raises** `ValueError` if the texts do not consist of whole sentences, or `statement` of more than one.
        """
        positive("seconds", seconds)
        stated = sentences(statement)
        if len(stated) != 1:
            raise ValueError(f"statement: must be one sentence, got {len(stated)}")
        opening = Opening(tuple(sentence.text for sentence in sentences(before)), stated[0].text)
        return self._reach(State(opening, (), (), ""), None, seconds)

    def run(self, state: State, tactic: str, *, seconds: float = 10.0) -> State | Failure:
        """What one tactic makes of a state; see `ProofSession.run`.

        The tactic is one sentence, its dot included, or a bullet or brace. Commands (`Axiom`, `Redirect`, …), and
        what sounds like one that reaches outside, are refused before Rocq sees them. The time is that of the
        tactic; leading the process back to the state, where that is necessary, may take a minute beside.

        **Raises** `TypeError` if `tactic` is no text; `ValueError` for a time that is not positive.
        """
        positive("seconds", seconds)
        if not isinstance(tactic, str):
            raise TypeError(f"tactic: expected a text, got {type(tactic).__name__}")
        if reason := refusal(tactic):
            return Failure("refused", reason)
        return self._reach(state, tactic, seconds)

    def _reach(self, state: State, tactic: str | None, seconds: float, *, once_more: bool = True) -> State | Failure:
        opening, path = state.opening, state.path
        within = f"no answer within {seconds:g} s"
        try:
            if tactic is None:
                back = self._lead(opening, path, seconds)
                return self._look(opening, path, self._say([*back, "Show."], seconds)[-1], seconds)
            back = self._lead(opening, path, REPLAY)
            *_, answer, shown = self._say([*back, tactic, "Show."], seconds)
            if answer.failure is not None:
                return answer.failure
            self._steps.append(_Step(tactic, answer.number))
            after = self._look(opening, (*path, tactic), shown, seconds)
            return replace(after, messages=answer.text[:MESSAGES]) if isinstance(after, State) else after
        except _Unusable as failure:
            return failure.failure
        except _Confused:
            self.close()
            if once_more:
                return self._reach(state, tactic, seconds, once_more=False)
            return Failure("error", "Rocq does not read this as one sentence")
        except _Interrupted:
            return Failure("timed out", within)
        except _Killed:
            self.close()
            return Failure("timed out", f"{within}, and Rocq did not heed an interrupt")
        except _Died as death:
            self.close()
            return Failure("crashed", f"Rocq's process died: {death}")
        except BaseException:
            self.close()  # in the middle of an answer nothing is known of the process
            raise

    def _lead(self, opening: Opening, path: tuple[str, ...], seconds: float) -> list[str]:
        """Bring the process to a state, but for one last sentence that is left to the caller: a step back, if any."""
        if self._process is None:
            self._begin()
        way = (*opening.before, opening.statement, *path)
        common = 0
        for step, sentence in zip(self._steps, way, strict=False):
            if step.sentence != sentence:
                break
            common += 1
        del self._steps[common:]
        home = self._steps[-1].number if self._steps else self._root
        back = [f"BackTo {home}."] if self._at != home else []
        if common == len(way):
            return back
        missing = way[common:]
        answers = self._say([*back, *missing], seconds)[len(back) :]
        for sentence, answer in zip(missing, answers, strict=True):
            if answer.failure is not None:
                shown = textwrap.shorten(sentence, 80, placeholder=" …")
                raise _Unusable(Failure(answer.failure.kind, f"{shown}: {answer.failure.message}"))
            self._steps.append(_Step(sentence, answer.number))
        return []

    def _look(self, opening: Opening, path: tuple[str, ...], shown: _Answer, seconds: float) -> State | Failure:
        if shown.failure is not None:
            return shown.failure
        text = _NUMBER.sub("", shown.text)
        if text.strip() == "No more goals.":
            home = self._steps[-1].number
            ended = self._say(["Qed.", f"BackTo {home}."], seconds)[0]
            if ended.failure is None:
                return State(opening, path, (), "No more goals.", finished=True)
            if _IN_FOCUS not in ended.failure.message:
                return ended.failure
            text = "No more goals in focus."
        goals = []
        if number := _FOCUSED.match(text):
            others = [f"Show {n}." for n in range(2, int(number[1]) + 1)]
            if others:
                answers = self._say(others, seconds)
                texts = [text, *(_NUMBER.sub("", answer.text) for answer in answers)]
                text = "\n".join([text.partition("\ngoal 2 is:")[0], *texts[1:]])
                goals = [goal(one) for one in texts]
            else:
                goals = [goal(text)]
        return State(opening, path, tuple(goals), text.strip(), given_up="you gave up" in text)

    def _begin(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="tendsto-rocq-")
        self._process = self._sandbox.open(self._command, Path(self._directory.name).resolve())
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None  # as opened
            os.set_blocking(pipe.fileno(), False)
        self._converse([], BEGIN)  # the greeting has a prompt of its own
        self._root = self._say(_SETTINGS, BEGIN)[-1].number

    def _say(self, spoken: Sequence[str], seconds: float) -> list[_Answer]:
        """What Rocq says to each sentence, and the number of the state after it."""
        heard = self._converse(spoken, seconds)
        answers = []
        end = 0
        for prompt in _PROMPT.finditer(heard):
            answers.append(_Answer.read(heard[end : prompt.start()], int(prompt[1])))
            end = prompt.end()
        self._at = answers[-1].number if answers else self._at
        if len(answers) != len(spoken):
            raise _Confused
        for sentence, answer in zip(spoken, answers, strict=True):
            if sentence.startswith("BackTo ") and answer.number != int(sentence[7:-1]):
                raise _Died(f"it does not go back to an earlier state: {answer.text[:200]}")
        return answers

    def _converse(self, spoken: Sequence[str], seconds: float) -> bytes:
        """Send sentences and one that no other sentence can know, and return what comes before the answer to that."""
        end = f"Tendsto{secrets.token_hex(8)}"
        try:
            return self._exchange("".join(f"{sentence}\n" for sentence in spoken), end, seconds)
        except TimeoutError:
            assert self._process is not None  # it has not answered
            sandbox.interrupt(self._process)
            self._at = 0
            try:
                self._exchange("", end + "x", GRACE)
            except TimeoutError:
                raise _Killed from None
            raise _Interrupted from None

    def _exchange(self, text: str, end: str, seconds: float) -> bytes:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        source, sink = self._process.stdout.fileno(), self._process.stdin.fileno()
        unsent = f"{text}Test {end}.\n".encode()
        quoted = f'"{end}"'.encode()
        heard = bytearray()
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _Killed if unsent else TimeoutError
            readable, writable, _ = select.select([source], [sink] if unsent else [], [], left)
            if writable:
                with suppress(BlockingIOError, BrokenPipeError):
                    unsent = unsent[os.write(sink, unsent[:PIECE]) :]
            if readable:
                piece = os.read(source, PIECE)
                heard += piece
                if not piece:
                    raise _Died(heard[-200:].decode(errors="replace").strip() or "without a word")
                if len(heard) > LONGEST:
                    raise _Killed
                at = heard.rfind(quoted, max(0, len(heard) - len(piece) - 200))
                if at >= 0 and heard.find(b"</prompt>", at) >= 0:
                    return bytes(heard[: heard.rfind(b"Toplevel input", 0, at)])


@dataclass(frozen=True)
class _Answer:
    text: str
    failure: Failure | None
    number: int

    @classmethod
    def read(cls, heard: bytes, number: int) -> _Answer:
        text = _TAG.sub("", heard.decode(errors="replace")).strip("\n")
        error = _ERROR.search(text)
        if error is None:
            return cls(text, None, number)
        message = textwrap.shorten(text[error.end() :], MESSAGE, placeholder=" …")
        kinds = (kind for kind, words in _KINDS.items() if words.search(message))
        kind: _Kind = next(kinds, "error")
        return cls(text, Failure(kind, message or "no message"), number)


def goal(text: str) -> Goal:
    """The goal that Rocq prints, of several the first: hypotheses above a line, and the conclusion below it.

    **Raises** `ValueError` if there is no line.
    """
    above, line, below = text.partition(f"\n{_LINE}\n")
    if not line:
        raise ValueError(f"text: no goal of Rocq's: {text[:80]!r}")
    conclusion = " ".join(below.partition("\n\ngoal 2 ")[0].split())
    hypotheses = []
    for found in _HYPOTHESIS.finditer(above):
        what = " ".join(found["what"].split())
        if what.startswith(":= "):
            body, _, kind = what[3:].rpartition(" : ")
            what = f"{kind} := {body}"
        else:
            what = what[2:]
        hypotheses += [(name, what) for name in found["names"].split(", ")]
    return Goal(tuple(hypotheses), conclusion)
