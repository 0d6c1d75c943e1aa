"""A method of the simulator on a real federation: Flower carries its calls and answers between server and clients."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PyTree
from numpy.typing import NDArray

from tendsto import extras, validation
from tendsto.federated.cohort import Cohort
from tendsto.federated.federation import Federation, client_weights, given_weights
from tendsto.federated.network import Network
from tendsto.federated.participation import Everyone, Participation
from tendsto.federated.rounds import Call, RoundMethod
from tendsto.iteration.running import init_key, root_key, run_key, starting_point, step_key

app: Any = extras.load("flwr.app", extra="federated")
clientapp: Any = extras.load("flwr.clientapp", extra="federated")
strategies: Any = extras.load("flwr.serverapp.strategy", extra="federated")

LOG = logging.getLogger(__name__)
NUMBER = "number"
"""The query by which the server learns which client a node is."""


class Roster(Federation):
    """What the server knows of a federation, which is everything but the data.

    **Arguments**

    - `size`: $n$, how many clients.
    - `weights`: $p_i$, by default equal.
    - `participation`: whom the server calls in a round; by default everyone.
    - `network`: see `Federation`.
    """

    size: int = eqx.field(static=True)
    weights: Float[Array, " clients"] = eqx.field(default=None, converter=given_weights)
    participation: Participation = Everyone()
    network: Network = Network()

    def __post_init__(self) -> None:
        validation.integer("size", self.size, low=1)
        self.weights = client_weights(self.weights, self.size)

    @property
    def clients(self) -> int:
        """$n$."""
        return self.size

    @property
    def data(self) -> PyTree[Array]:
        """Nothing."""
        return ()

    def check_start(self, x0: PyTree[Array]) -> None:
        """The clients alone can say."""

    def client_loss(self, data: PyTree[Array], x: PyTree[Array]) -> Float[Array, ""]:
        """The clients alone can say; raises `NotImplementedError`."""
        raise NotImplementedError("the server of a federation has no data")


def client_app(method: RoundMethod[Any], x0: PyTree[Any], client: Callable[[Any], tuple[int, Federation]]) -> Any:
    r"""The Flower `ClientApp` of a method.

    What the method has a client keep for itself is in the context's state. It counts once the server has said that the
    answer arrived, so that a lost or refused answer is as if it had never been given.

    **Arguments**

    - `method`: the same as the server's.
    - `x0`: a pytree like the iterate.
    - `client`: from Flower's context to the client's number, $0 \le i < n$, and its own data, a `Federation` of one.

    **Returns** a `flwr.clientapp.ClientApp`.
    """
    flower = clientapp.ClientApp()
    own = _Client(method, starting_point(x0), client)
    flower.query(NUMBER)(own.number)
    flower.train()(own.answer)
    return flower


@dataclass(frozen=True)
class _Client:
    """What a `ClientApp` calls.

    Flower's simulation sends it to another process with every message. As methods of a class that is imported there,
    and not as functions made here, they find what that process has compiled before.
    """

    method: RoundMethod[Any]
    x0: PyTree[Array]
    client: Callable[[Any], tuple[int, Federation]]

    def number(self, message: Any, context: Any) -> Any:
        own, _ = self.client(context)
        record = app.RecordDict({"config": app.ConfigRecord({"number": own})})
        return app.Message(content=record, reply_to=message)

    def answer(self, message: Any, context: Any) -> Any:
        _, problem = self.client(context)
        if problem.clients != 1:
            raise ValueError(f"client: expected a federation of one, got {problem.clients} clients")
        config = message.content["config"]
        opening, this = bool(config["opening"]), int(config["round"])
        like, first = _likeness(self.method, problem, self.x0, opening)
        shared = _decode(message.content["shared"], like.shared)
        row = jax.tree.map(lambda leaf: leaf[0], _decode(message.content["row"], like.rows))
        kept = _settled(context.state, int(config["settled"]), first)
        data = jax.tree.map(lambda leaf: leaf[0], problem.data)
        sent, after = _answer(self.method, problem, data, shared, row, kept, opening)
        context.state["kept"], context.state["pending"] = _encode(kept), _encode(after)
        context.state["rounds"] = app.ConfigRecord({"kept": int(config["settled"]), "pending": this})
        record = app.RecordDict({"answer": _encode(sent), "config": app.ConfigRecord({"round": this})})
        return app.Message(content=record, reply_to=message)


@eqx.filter_jit
def _answer(
    method: RoundMethod[Any], problem: Federation, data: Any, shared: Any, row: Any, kept: Any, opening: bool
) -> tuple[Any, Any]:
    return method.answer(problem, data, shared, row, kept, opening)


def _likeness(method: RoundMethod[Any], problem: Federation, x0: PyTree[Array], opening: bool) -> tuple[Any, Any]:
    """A call to one client as far as shapes go, and what the client keeps before its first answer."""
    key = jax.random.key(0)
    state, call = method.open(problem, x0, key)
    if not opening:
        _, call = eqx.filter_eval_shape(method.call, problem, state, key)
    return call, jax.tree.map(lambda leaf: leaf[0], method.kept(state))


def _settled(state: Any, settled: int, first: PyTree[Array]) -> PyTree[Array]:
    """What the client kept when its answer of round `settled` had arrived; -1 stands for none."""
    if not jax.tree.leaves(first) or settled < 0:
        return first
    for name in ("pending", "kept"):
        if "rounds" in state and state["rounds"][name] == settled:
            return _decode(state[name], first)
    raise RuntimeError(f"what this client kept after round {settled} is lost; it cannot take part any more")


class RoundStrategy(strategies.Strategy):  # type: ignore[misc]
    r"""The Flower `Strategy` of a method.

    The server calls the cohort that the simulator would have drawn with the same key, and receives what arrives in
    time. These answers are left out, which makes their client absent in that round, and are listed in `left_out`:
    an error; an answer to another round; a second answer of one client; one of other shapes than the method's; one that
    is not finite. A node that is gone is absent, and one that comes back is called again.

    **Arguments**

    - `method`: any method of rounds, `FedAvg` or `EF21`.
    - `roster`: the clients.
    - `x0`: the starting point, any pytree of arrays.
    - `key`: the root of all randomness, as for `run`.
    - `timeout`: how many seconds to wait for nodes to connect before the first round, and for the answers to what is
      asked outside of rounds.

    After `start`, `x` is the iterate, `state` the method's state, and `left_out` a list of `(round, client, reason)`.
    """

    def __init__(
        self,
        method: RoundMethod[Any],
        roster: Roster,
        x0: PyTree[Any],
        *,
        key: int | Key[Array, ""] = 0,
        timeout: float = 60.0,
    ) -> None:
        validation.positive("timeout", timeout)
        self.method, self.roster, self.timeout = method, roster, timeout
        self._key = run_key(root_key(key), 0)
        self._x0 = starting_point(x0)
        self.state, self._opening = method.open(roster, self._x0, init_key(self._key))
        self.state = method.with_kept(self.state, None)
        self.left_out: list[tuple[int, int, str]] = []
        self._nodes: dict[int, int] = {}
        self._settled = np.full(roster.clients, -1)
        self._call: Call | None = None
        self._asked: list[Any] = []

    @property
    def x(self) -> PyTree[Array]:
        """The iterate."""
        return self.state.x

    def initial_arrays(self) -> Any:
        """What `start` takes as `initial_arrays`."""
        return _plain(self._x0)

    def summary(self) -> None:
        """Log the method."""
        LOG.info("%s with %d clients", type(self.method).__name__, self.roster.clients)

    def configure_train(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Iterable[Any]:
        """The calls of a round; before the first one, those that open the method."""
        self._meet(grid)
        if server_round == 1 and self._opening is not None:
            messages = self._messages(self._opening, 0)
            self._receive(0, grid.send_and_receive(messages, timeout=self.timeout))
        self.state, call = _call(self.method, self.roster, self.state, step_key(self._key, server_round - 1))
        return self._messages(call, server_round)

    def aggregate_train(self, server_round: int, replies: Iterable[Any]) -> tuple[Any, Any]:
        """The iterate after the answers, and how many counted."""
        arrived = self._receive(server_round, replies)
        return _plain(self.state.x), app.MetricRecord({"answers": arrived})

    def configure_evaluate(self, server_round: int, arrays: Any, config: Any, grid: Any) -> Iterable[Any]:
        """Nothing; evaluate on the server with `start(evaluate_fn=…)`."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Any]) -> None:
        """Nothing."""

    def _meet(self, grid: Any) -> None:
        """Ask nodes that are new which client they are; before the first round wait until all clients are there."""
        deadline = time.monotonic() + self.timeout
        while True:
            present = set(grid.get_node_ids())
            self._nodes = {node: number for node, number in self._nodes.items() if node in present}
            new = present - self._nodes.keys()
            asked = [
                app.Message(content=app.RecordDict(), message_type=f"query.{NUMBER}", dst_node_id=node) for node in new
            ]
            for reply in grid.send_and_receive(asked, timeout=self.timeout) if asked else ():
                if not reply.has_error():
                    self._introduce(reply.metadata.src_node_id, int(reply.content["config"]["number"]))
            missing = set(range(self.roster.clients)) - set(self._nodes.values())
            if self._call is not None or not missing:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"clients {sorted(missing)} did not connect within {self.timeout:g} seconds")
            time.sleep(0.1)

    def _introduce(self, node: int, number: int) -> None:
        if not 0 <= number < self.roster.clients:
            raise ValueError(f"client: number {number} is not in [0, {self.roster.clients - 1}]")
        # A client that comes back has a new node; the old one answers no more.
        self._nodes = {other: taken for other, taken in self._nodes.items() if taken != number} | {node: number}

    def _messages(self, call: Call, this: int) -> list[Any]:
        self._call = call
        shared = _encode(call.shared)
        node_of = {number: node for node, number in self._nodes.items()}
        messages = []
        for place, number in enumerate(_numbers(call.cohort, self.roster.clients)):
            if not bool(call.cohort.active[place]) or number not in node_of:
                continue
            config = {"round": this, "opening": call.opening, "settled": int(self._settled[number])}
            row = _encode(jax.tree.map(lambda leaf, place=place: leaf[place : place + 1], call.rows))
            record = app.RecordDict({"shared": shared, "row": row, "config": app.ConfigRecord(config)})
            messages.append(app.Message(content=record, message_type="train", dst_node_id=node_of[number]))
        self._asked = messages
        return messages

    def _sender(self, reply: Any) -> int:
        """The client that a reply is of; for a node that is gone it is Flower itself that replies, with an error."""
        node = reply.metadata.src_node_id
        if node not in self._nodes:
            asked = {message.metadata.message_id: message.metadata.dst_node_id for message in self._asked}
            node = asked[reply.metadata.reply_to_message_id]
        return self._nodes[node]

    def _receive(self, this: int, replies: Iterable[Any]) -> int:
        """Let the method receive what counts; how many that were."""
        call = self._call
        assert call is not None
        like = self.method.answer_like(self.state.x)
        answers: dict[int, PyTree[Array]] = {}
        for reply in replies:
            number = self._sender(reply)
            answer, reason = _checked(reply, this, like)
            if reason is None and number in answers:
                reason = "answered twice"
            if reason is None:
                answers[number] = answer
            else:
                self.left_out.append((this, number, reason))
                LOG.warning("round %d: client %d is left out: %s", this, number, reason)
        numbers = _numbers(call.cohort, self.roster.clients)
        arrived = np.isin(numbers, list(answers))
        self._settled[numbers[arrived]] = this
        absent = jax.tree.map(jnp.zeros_like, like)
        rows = [answers.get(int(number), absent) for number in numbers]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *rows)
        heard = Call(
            Cohort(call.cohort.active & jnp.asarray(arrived), call.cohort.indices),
            call.shared,
            call.rows,
            call.opening,
        )
        self.state = _receive(self.method, self.roster, self.state, heard, stacked)
        return int(arrived.sum())


@eqx.filter_jit
def _call(method: RoundMethod[Any], roster: Roster, state: Any, key: Key[Array, ""]) -> tuple[Any, Call]:
    return method.call(roster, state, key)


@eqx.filter_jit
def _receive(method: RoundMethod[Any], roster: Roster, state: Any, call: Call, answers: PyTree[Array]) -> Any:
    return method.receive(roster, state, call, answers)


def _numbers(cohort: Cohort, clients: int) -> NDArray[np.int64]:
    return np.arange(clients) if cohort.indices is None else np.asarray(cohort.indices)


def _checked(reply: Any, this: int, like: PyTree[Any]) -> tuple[PyTree[Array], str | None]:
    """A reply's answer, or why it does not count."""
    if reply.has_error():
        return None, f"error: {reply.error.reason}"
    try:
        answered = int(reply.content["config"]["round"])
        answer = _decode(reply.content["answer"], like)
    except (KeyError, ValueError) as error:
        return None, f"not an answer: {error}"
    if answered != this:
        return None, f"answers round {answered}"
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(answer)):
        return None, "not finite"
    return answer, None


def _plain(tree: PyTree[Array]) -> Any:
    return app.ArrayRecord([np.asarray(leaf) for leaf in jax.tree.leaves(tree)])


def _encode(tree: PyTree[Array]) -> Any:
    """Arrays as Flower sends them; one that is mostly zeros as the places and values of the others."""
    arrays = []
    for leaf in jax.tree.leaves(tree):
        dense = np.asarray(jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
        places = np.flatnonzero(dense).astype(np.uint32)
        sparse = 0 < places.nbytes + places.size * dense.itemsize < dense.nbytes
        arrays += [places, dense.ravel()[places]] if sparse else [np.zeros(0, np.uint32), dense]
    return app.ArrayRecord(arrays)


def _decode(record: Any, like: PyTree[Any]) -> PyTree[Array]:
    """The arrays with the structure, shapes and types of `like`.

    **Raises** `ValueError` if they are others.
    """
    leaves, structure = jax.tree.flatten(like)
    arrays = record.to_numpy_ndarrays()
    if len(arrays) != 2 * len(leaves):
        raise ValueError(f"expected {len(leaves)} arrays, got {len(arrays) / 2:g}")
    pairs = zip(arrays[::2], arrays[1::2], strict=True)
    return jax.tree.unflatten(structure, [_leaf(*pair, leaf) for pair, leaf in zip(pairs, leaves, strict=True)])


def _leaf(places: NDArray[Any], values: NDArray[Any], like: Any) -> Array:
    is_key = jnp.issubdtype(like.dtype, jax.dtypes.prng_key)
    plain = jax.eval_shape(jax.random.key_data, like) if is_key else like
    if places.size:
        dense = np.zeros(plain.shape, values.dtype)
        dense.flat[places] = values
    else:
        dense = values
    if dense.shape != plain.shape or dense.dtype != plain.dtype:
        raise ValueError(f"expected shape {plain.shape} of {plain.dtype}, got {dense.shape} of {dense.dtype}")
    array = jnp.asarray(dense)
    return jax.random.wrap_key_data(array) if is_key else array
