"""Named constants, each a ball at the precision in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import flint
from flint import arb


@dataclass(frozen=True)
class Constant:
    """A named number.

    **Arguments**

    - `name`: how it is typed; `latex`: how it is written.
    - `value`: a function without arguments that returns a `flint.arb` at the precision of `flint.ctx`.
    """

    name: str
    latex: str
    value: Callable[[], arb]

    def ball(self, digits: int) -> arb:
        """The number to `digits` decimal digits and a few more."""
        with flint.ctx.workdps(digits + 10):
            return self.value()


def _zeta(argument: int) -> Callable[[], arb]:
    return lambda: arb(argument).zeta()


def _log(argument: int) -> Callable[[], arb]:
    return lambda: arb(argument).log()


def _gauss() -> arb:
    return 1 / arb(1).agm(arb(2).sqrt())


LIBRARY: dict[str, Constant] = {
    constant.name: constant
    for constant in (
        Constant("pi", r"\pi", arb.pi),
        Constant("e", r"e", arb.const_e),
        Constant("ln2", r"\ln 2", _log(2)),
        Constant("zeta3", r"\zeta(3)", _zeta(3)),
        Constant("zeta2", r"\zeta(2)", _zeta(2)),
        Constant("catalan", r"G", arb.const_catalan),
        Constant("pi^3", r"\pi^3", lambda: arb.pi() ** 3),
        Constant("zeta5", r"\zeta(5)", _zeta(5)),
        Constant("ln3", r"\ln 3", _log(3)),
        Constant("ln5", r"\ln 5", _log(5)),
        Constant("pi*sqrt2", r"\pi\sqrt2", lambda: arb.pi() * arb(2).sqrt()),
        Constant("pi*sqrt3", r"\pi\sqrt3", lambda: arb.pi() * arb(3).sqrt()),
        Constant("ln(1+sqrt2)*sqrt2", r"\sqrt2\ln(1+\sqrt2)", lambda: (1 + arb(2).sqrt()).log() * arb(2).sqrt()),
        Constant("ln(2+sqrt3)*sqrt3", r"\sqrt3\ln(2+\sqrt3)", lambda: (2 + arb(3).sqrt()).log() * arb(3).sqrt()),
        Constant("ln(golden)*sqrt5", r"\sqrt5\ln\phi", lambda: ((1 + arb(5).sqrt()) / 2).log() * arb(5).sqrt()),
        Constant("atan(sqrt2)*sqrt2", r"\sqrt2\arctan\sqrt2", lambda: arb(2).sqrt().atan() * arb(2).sqrt()),
        Constant("atan(1/2)", r"\arctan\tfrac12", lambda: (arb(1) / 2).atan()),
        Constant("atan(1/3)", r"\arctan\tfrac13", lambda: (arb(1) / 3).atan()),
        Constant("e^2", r"e^2", lambda: arb(2).exp()),
        Constant("sqrt(e)", r"\sqrt e", lambda: (arb(1) / 2).exp()),
        Constant("tan(1)", r"\tan 1", lambda: arb(1).tan()),
        Constant("gompertz", r"\delta", lambda: -arb(1).exp() * arb(-1).ei()),
        Constant("gauss", r"\operatorname{agm}(1,\sqrt2)^{-1}", _gauss),
        Constant("lemniscate", r"\varpi", lambda: arb.pi() * _gauss()),
        Constant("gamma", r"\gamma", arb.const_euler),
    )
}
"""The constants that `identify` tries unless told otherwise, roughly from the best known on."""
