"""One pass over a proof in the assistant: what holds is kept, what is broken is given up, what is missing is added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tendsto.assistants import Failure, Goal, ProofSession, State
from tendsto.proof.blocks import HOLE, Block, Claim, Edit, Item, Step, gives_up, in_braces, tail_of


@dataclass(frozen=True)
class Masked:
    """A part of a script that was taken out.

    **Arguments**

    - `text`: what stood there.
    - `kind`: why; of a part that `timed out` or `crashed` it is not known that it is wrong. `redundant`: all goals were
      proved before it.
    - `message`: what the assistant said.
    """

    text: str
    kind: str
    message: str


@dataclass(frozen=True)
class Gap:
    """A hole as a pass meets it: where it stands, its goal, and its place in the block tree."""

    start: int
    goal: Goal
    path: tuple[int, ...]


class Stuck(Exception):
    """The assistant does not do what the pass relies on; nothing is known of the script."""


@dataclass
class Pass:
    """Runs the items of a block tree, and notes what has to be changed before all of it holds.

    A claim that the assistant does not accept goes with the block that proves it; a step before a claim goes alone; a
    leaf (the steps after the last claim or block) is given up as a whole. Goals that are left at the end of a block,
    and cases without a bullet, are given up. An edit that gives a goal up is made where the goal is seen.

    **Arguments**

    - `session`: where it runs; `text`: the script that the items come from.
    - `seconds`: for each sentence.
    """

    session: ProofSession
    text: str
    seconds: float
    edits: list[Edit] = field(default_factory=list)
    masked: list[Masked] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)

    def run(self, items: Sequence[Item], state: State) -> State:
        """Run a whole proof; the state that it ends in has no goals.

        **Raises** `Stuck` if it does not get there.
        """
        end = max((item.end for item in items), default=0)
        state = self._body(list(items), state, end, ())
        if state.goals or not (state.finished or state.given_up):
            raise Stuck("goals are left that no tactic can reach")
        if state.given_up and not (self.gaps or self.edits):
            raise Stuck("a tactic gives a goal up under another name")
        return state

    def _body(self, items: list[Item], state: State, end: int, path: tuple[int, ...]) -> State:
        """Run what is in one focus, and give up the goals that are left in it."""
        at = 0
        while at < tail_of(items):
            state, at = self._item(items, at, state, path)
        state = self._leaf(items[at:], state, (*path, at))
        return self._close(state, items[-1].end if items else end)

    def _close(self, state: State, end: int) -> State:
        while state.goals:
            self.edits.append(Edit(end, end, f" {HOLE}"))
            state = self._sure(state, HOLE)
        return state

    def _item(self, items: list[Item], at: int, state: State, path: tuple[int, ...]) -> tuple[State, int]:
        """Run one item, and with a claim what proves it; return where to go on."""
        item, here = items[at], (*path, at)
        if isinstance(item, Claim):
            return self._claim(items, at, state, path)
        if isinstance(item, Step):
            return self._step(item, state, here) or state, at + 1
        opened = self._try(state, item.opener.text)
        if isinstance(opened, Failure):
            self._drop(item.start, item.end, opened)
            return state, at + 1
        if item.closer is None and not item.bullet:
            return self._unclosed(items, at, opened, here), at + 1
        inside = self._body(list(item.items), opened, item.opener.end, here)
        if item.closer:
            return self._sure(inside, "}"), at + 1
        after = items[at + 1] if at + 1 < len(items) else None
        if not (isinstance(after, Block) and after.opener.text == item.opener.text):
            inside = self._other_cases(inside, item)
        return inside, at + 1

    def _unclosed(self, items: list[Item], at: int, state: State, path: tuple[int, ...]) -> State:
        """A brace that nothing closes ends where its goal is proved; what comes after it is put beside it."""
        block = items[at]
        assert isinstance(block, Block)
        inner, n = list(block.items), 0
        while n < len(inner) and state.goals:
            state, n = self._item(inner, n, state, path)
        end = inner[n - 1].end if n else block.opener.end
        state = self._close(state, end)
        self.edits.append(Edit(end, end, " }"))
        items[at + 1 : at + 1] = inner[n:]
        return self._sure(state, "}")

    def _other_cases(self, state: State, block: Block) -> State:
        """Give up the cases for which there is no bullet."""
        while not isinstance(opened := self._try(state, block.opener.text), Failure):
            self.edits.append(Edit(block.end, block.end, f" {block.opener.text} {HOLE}"))
            state = self._sure(opened, HOLE)
        return state

    def _claim(self, items: list[Item], at: int, state: State, path: tuple[int, ...]) -> tuple[State, int]:
        claim = items[at]
        assert isinstance(claim, Claim)
        block = items[at + 1] if at + 1 < len(items) else None
        if claim.by is not None:
            return self._justified(claim, state), at + 1
        stated = self._try(state, claim.sentence.text)
        if isinstance(stated, Failure):
            end = block.end if isinstance(block, Block) else claim.end
            self._drop(claim.start, end, stated)
            return state, at + 1 + isinstance(block, Block)
        if isinstance(block, Block):
            return stated, at + 1
        return self._open_claim(items, at, state, stated, path)

    def _justified(self, claim: Claim, state: State) -> State:
        """A claim with `by`: as it is, without its justification, or not at all."""
        assert claim.by is not None
        whole = self._try(state, claim.sentence.text)
        if not isinstance(whole, Failure):
            return whole
        stated = self._try(state, self.text[claim.start : claim.by] + ".")
        if isinstance(stated, Failure):
            self._drop(claim.start, claim.end, stated)
            return state
        self._mask(claim.by, claim.end, in_braces(), whole)
        for sentence in ("{", HOLE, "}"):
            stated = self._sure(stated, sentence)
        return stated

    def _open_claim(
        self, items: list[Item], at: int, before: State, stated: State, path: tuple[int, ...]
    ) -> tuple[State, int]:
        """A claim without a block: its proof ends where its goal is gone, or where it breaks, before the next claim."""
        if len(stated.goals) <= len(before.goals):
            return stated, at + 1
        state, n = stated, at + 1
        first_edit, first_gap, first_masked = len(self.edits), len(self.gaps), len(self.masked)
        while n < len(items) and len(state.goals) > len(before.goals):
            item = items[n]
            if isinstance(item, Step) and not isinstance(item, Claim):
                following = self._try(state, item.sentence.text, item.start, (*path, n))
                if isinstance(following, Failure):
                    stop = n + 1
                    while stop < len(items) and type(items[stop]) is Step:
                        stop += 1
                    del self.edits[first_edit:], self.gaps[first_gap:], self.masked[first_masked:]
                    first, last = items[at + 1].start, items[stop - 1].end
                    self._mask(first, last, f"{{ {HOLE} }}", following)
                    for sentence in ("{", HOLE, "}"):
                        stated = self._sure(stated, sentence)
                    return stated, stop
                state, n = following, n + 1
            else:
                state, n = self._item(items, n, state, path)
        return state, n

    def _step(self, step: Step, state: State, path: tuple[int, ...]) -> State | None:
        found = self._try(state, step.sentence.text, step.start, path)
        if isinstance(found, Failure):
            self._drop(step.start, step.end, found)
            return None
        return found

    def _leaf(self, steps: Sequence[Item], state: State, path: tuple[int, ...]) -> State:
        entry, gaps = state, len(self.gaps)
        for n, step in enumerate(steps):
            assert isinstance(step, Step)
            if not state.goals:
                self._drop(step.start, steps[-1].end, Failure("error", "all goals are proved before it"), "redundant")
                return state
            found = self._try(state, step.sentence.text, step.start, (*path[:-1], path[-1] + n))
            if isinstance(found, Failure):
                del self.gaps[gaps:]
                self._mask(steps[0].start, steps[-1].end, HOLE, found)
                return self._sure(entry, HOLE)
            state = found
        return state

    def _try(
        self, state: State, sentence: str, start: int | None = None, path: tuple[int, ...] = ()
    ) -> State | Failure:
        if sentence == HOLE and start is not None and state.goals:
            self.gaps.append(Gap(start, state.goals[0], path))
        elif gives_up(sentence):
            return Failure("refused", "it gives a goal up")
        return self.session.run(state, sentence, seconds=self.seconds)

    def _sure(self, state: State, sentence: str) -> State:
        found = self.session.run(state, sentence, seconds=self.seconds)
        if isinstance(found, Failure):
            raise Stuck(f"{sentence} {found.message}")
        return found

    def _drop(self, start: int, end: int, failure: Failure, kind: str = "") -> None:
        self.masked.append(Masked(self.text[start:end], kind or failure.kind, failure.message))
        # The blanks before go with it; at the very beginning, those after.
        before = len(self.text[:start].rstrip())
        after = len(self.text) - len(self.text[end:].lstrip()) if before == 0 else end
        self.edits.append(Edit(before, after, ""))

    def _mask(self, start: int, end: int, hole: str, failure: Failure) -> None:
        self.edits.append(Edit(start, end, hole))
        self.masked.append(Masked(self.text[start:end], failure.kind, failure.message))
