"""Name clusters of formulas: a few integer relations for a cluster, in place of one for every formula and constant."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import flint
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from tendsto import validation
from tendsto.constants.anchors import ANCHORS, Anchor, square_root, squarefree_part
from tendsto.constants.clustering import FormulaClusterer, Plane, by_ratio, require_columns
from tendsto.constants.continued_fractions import PCF, NoLimit
from tendsto.constants.identification import Identification, confirm, identify
from tendsto.constants.library import LIBRARY, Constant
from tendsto.constants.polynomials import to_latex

Evidence = Literal["anchor", "library", "members"]

DIGITS = 60
"""Digits to which a relation is looked for; it is confirmed at twice as many."""


class Identifier:
    """Identifies formulas, and counts the integer relations that this takes.

    One relation is looked for per constant and formula; whether the formula is rational or
    quadratic is asked along with it.
    """

    def __init__(self) -> None:
        self.relations = 0
        self._without_limit: set[PCF] = set()
        self._known: dict[tuple[PCF, str], Identification | None] = {}

    def __call__(self, formula: PCF, constants: Iterable[Constant]) -> Constant | None:
        """The constant whose Möbius image the limit is; `rational` or a square root where it is that; or none."""
        asked = []
        for constant in constants:
            if (formula, constant.name) not in self._known:
                asked.append(constant)
            elif (found := self._known[formula, constant.name]) is not None:
                return found.constant or _algebraic(found)
        if not asked or formula in self._without_limit:
            return None
        self.relations += len(asked)
        found = self._identify(formula, asked)
        if found is None:
            self._known.update({(formula, constant.name): None for constant in asked})
            return None
        self._known[formula, found.constant.name if found.constant else asked[0].name] = found
        return found.constant or _algebraic(found)

    def _identify(self, formula: PCF, constants: list[Constant]) -> Identification | None:
        try:
            # The ball is computed once for all constants; what it suggests must hold at twice the digits.
            found = identify(_certified(formula, DIGITS), constants)
            return found if found is not None and confirm(formula, found, 2 * DIGITS) else None
        except NoLimit:
            self._without_limit.add(formula)
            return None


RATIONAL = Constant("rational", r"\mathbb{Q}", lambda: flint.arb(1))
"""What a rational limit is called."""


def _algebraic(found: Identification) -> Constant:
    if len(found.coefficients) == 2:
        return RATIONAL
    c, b, a = found.coefficients
    return square_root(squarefree_part(b * b - 4 * a * c))


@dataclass(frozen=True)
class Cluster:
    """A cluster with its name.

    **Arguments**

    - `members`: the rows of the table that are in it.
    - `constant`: the constant of which all are Möbius images; a member's own limit where it has no name.
    - `evidence`: what gave the name: an `"anchor"`, the `"library"`, or only that `"members"` are related.
    - `verified`: how many members were related to the constant one by one; the others follow them.
    """

    members: NDArray[np.intp]
    constant: Constant
    evidence: Evidence
    verified: int


@dataclass(frozen=True)
class Labelling:
    """What became of the rows of a table of metrics.

    **Arguments**

    - `clusters`: those that have a name, in the order in which they were found.
    - `rows`: how many rows the table has.
    - `contradictory`: how many clusters were split because their members belong to different constants.
    - `relations`: how many integer relations were looked for.
    """

    clusters: list[Cluster]
    rows: int
    contradictory: int
    relations: int

    @property
    def labels(self) -> NDArray[np.object_]:
        """The name of each row's constant, shape `(rows,)`; empty for a row that is in no cluster with a name."""
        labels = np.full(self.rows, "", dtype=object)
        for cluster in self.clusters:
            labels[cluster.members] = cluster.constant.name
        return labels

    def to_frame(self) -> pd.DataFrame:
        """A row for each cluster: `constant`, `members`, `verified`, `evidence`."""
        return pd.DataFrame(
            [(it.constant.name, len(it.members), it.verified, it.evidence) for it in self.clusters],
            columns=["constant", "members", "verified", "evidence"],
        )


def label_clusters(
    table: pd.DataFrame,
    *,
    anchors: Iterable[Anchor] = ANCHORS,
    constants: Iterable[Constant] = tuple(LIBRARY.values()),
    clusterer: FormulaClusterer | None = None,
    sample: int = 400,
    anchor_sample: int = 4,
    seed: int = 0,
) -> Labelling:
    r"""Cluster a table of metrics and name the clusters, splitting those that hold more than one constant.

    For each cluster, in this order:

    1. Its anchors must be related to each other; else it is split.
    2. With an anchor, a random `sample` of its members must be related to that anchor's constant.
    3. Without one, `anchor_sample` members are looked up among `constants`; a hit becomes the anchor, then as in 2.
    4. With no hit, the sample must be related among itself: a coherent cluster of a constant without a name.

    A cluster that fails is split: first by the exact ratio of eigenvalues, sign included; then in the planes that come
    after its own; and what is then noise, or has no further plane, by the relations themselves, where every member is
    asked. Clusters of unnamed constants that are related to each other get one name. Related means a relation
    $a_0 + a_1 x + a_2 y + a_3 xy = 0$ that passes the guard of `identify` and still holds at twice the digits.

    **Arguments**

    - `table`: metrics, from `metrics_table` or `metrics_part`.
    - `anchors`: fractions of known value to look for in the clusters.
    - `constants`: what to look members up among where there is no anchor.
    - `clusterer`: by default `FormulaClusterer()`.
    - `sample`, `anchor_sample`: the paper's 400 and 4.
    - `seed`: of the random samples.

    **Raises** `TypeError` or `ValueError` for a table without the columns, or a sample below 1.

    **Source**: section 4 and figure 1 of arXiv:2412.16818. There relations of degree 2 are sought among members; ours
    have degree 1 in each. Its authors' code compares a member with itself at one point where the anchor is meant.
    """
    clusterer = FormulaClusterer() if clusterer is None else clusterer
    validation.integer("sample", sample, low=1)
    validation.integer("anchor_sample", anchor_sample, low=1)
    require_columns("table", table, {"a", "b", "eigenvalue_ratio"})
    loop = _Loop(table, anchors, tuple(constants), sample, anchor_sample, np.random.default_rng(seed))
    loop.run(clusterer)
    return Labelling(loop.clusters, len(table), loop.contradictory, loop.identifier.relations)


@dataclass
class _Loop:
    table: pd.DataFrame
    anchors: Iterable[Anchor]
    constants: Sequence[Constant]
    sample: int
    anchor_sample: int
    generator: np.random.Generator
    identifier: Identifier = field(default_factory=Identifier)
    clusters: list[Cluster] = field(default_factory=list)
    contradictory: int = 0

    def __post_init__(self) -> None:
        self.formulas = [PCF(list(a), list(b)) for a, b in zip(self.table["a"], self.table["b"], strict=True)]
        self.ratios = self.table["eigenvalue_ratio"].to_numpy(dtype=np.float64)
        self.known = {anchor.formula: anchor for anchor in self.anchors}
        self.unnamed: list[Constant] = []

    def run(self, clusterer: FormulaClusterer) -> None:
        for group, planes in self._clusters(np.arange(len(self.formulas)), tuple(clusterer.planes), clusterer):
            self._examine(group, planes, clusterer)

    def _clusters(
        self, rows: NDArray[np.intp], planes: tuple[Plane, ...], clusterer: FormulaClusterer
    ) -> Iterator[tuple[NDArray[np.intp], tuple[Plane, ...]]]:
        """The clusters of these rows in the first plane that has any, each with the planes that are left for it."""
        if not planes:
            return
        fitted = clone(clusterer).set_params(planes=planes).fit(self.table.iloc[rows])
        if fitted.plane_ is None:
            return
        left = planes[planes.index(fitted.plane_) + 1 :]
        for label in range(fitted.labels_.max() + 1):
            yield rows[fitted.labels_ == label], left

    def _examine(self, rows: NDArray[np.intp], planes: tuple[Plane, ...], clusterer: FormulaClusterer) -> None:
        """Name the cluster, or split it and examine the parts."""
        cluster = self._name(rows)
        if cluster is not None:
            self.clusters.append(cluster)
            return
        self.contradictory += 1
        parts = [rows[part] for part in by_ratio(self.ratios[rows])]
        if len(parts) > 1:
            for part in parts:
                self._examine(part, planes, clusterer)
            return
        found = list(self._clusters(rows, planes, clusterer))
        for part, left in found:
            self._examine(part, left, clusterer)
        self._by_relations(np.setdiff1d(rows, np.concatenate([part for part, _ in found])) if found else rows)

    def _by_relations(self, rows: NDArray[np.intp]) -> None:
        """Name those members that are related to another, or are anchors."""
        for component in self._components(rows):
            if len(component) > 1 or self.formulas[component[0]] in self.known:
                cluster = self._name(np.array(component), looked_up=1)
                if cluster is not None:
                    self.clusters.append(cluster)

    def _name(self, rows: NDArray[np.intp], looked_up: int | None = None) -> Cluster | None:
        """The cluster with its name; none if it holds more than one constant."""
        anchored = [row for row in rows if self.formulas[row] in self.known]
        if anchored:
            constant: Constant | None = self.known[self.formulas[anchored[0]]].constant
            if not all(self._is(row, constant) for row in anchored[1 : self.anchor_sample]):
                return None
        else:
            looked_up = self.anchor_sample if looked_up is None else looked_up
            tried = (self.identifier(self.formulas[row], self.constants) for row in self._some(rows, looked_up))
            constant = next(filter(None, tried), None)
        asked = self._some(rows, self.sample)
        if constant is not None:
            if not all(self._is(row, constant) for row in asked):
                return None
            return Cluster(rows, constant, "anchor" if anchored else "library", len(asked))
        if len(asked) < 2 or len(self._components(asked, at_most=1)) > 1:
            return None
        return Cluster(rows, self._unnamed(self.formulas[asked[0]]), "members", len(asked))

    def _is(self, row: int, constant: Constant | None) -> bool:
        if constant is None:
            return False
        found = self.identifier(self.formulas[row], [constant])
        return found is not None and found.name == constant.name

    def _components(self, rows: NDArray[np.intp], at_most: float = np.inf) -> list[list[int]]:
        """The members that are related to each other, each asked against the first of every component so far.

        No further component is begun once there are more than `at_most`.
        """
        components: list[list[int]] = []
        for row in rows.tolist():
            for component in components:
                if self._is(row, limit_of(self.formulas[component[0]])):
                    component.append(row)
                    break
            else:
                components.append([row])
                if len(components) > at_most:
                    break
        return components

    def _unnamed(self, formula: PCF) -> Constant:
        """The limit of `formula` as a constant, or one found before to which it is related."""
        known = self.identifier(formula, self.unnamed)
        if known is None:
            known = limit_of(formula)
            self.unnamed.append(known)
        return known

    def _some(self, rows: NDArray[np.intp], number: int) -> NDArray[np.intp]:
        return np.sort(self.generator.choice(rows, min(number, len(rows)), replace=False))


def limit_of(formula: PCF) -> Constant:
    """The limit of a fraction as a constant: what other fractions can be related to."""
    name = f"limit of {formula}"
    return Constant(name, rf"\operatorname{{PCF}}({to_latex(formula.a)}, {to_latex(formula.b)})", _Limit(formula))


@dataclass(frozen=True)
class _Limit:
    formula: PCF

    def __call__(self) -> flint.arb:
        return _certified(self.formula, int(flint.ctx.dps))


@functools.lru_cache(maxsize=4096)
def _certified(formula: PCF, digits: int) -> flint.arb:
    return formula.limit(digits)
