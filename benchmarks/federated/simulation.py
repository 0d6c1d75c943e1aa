"""The federated simulator beside PyTorch, FedJAX, FedLab and Flower's simulation: same data, model, rounds, accuracy.

    python -m benchmarks.federated.simulation [--quick] [--json]

Federated averaging with full local batches, so that every contender computes the same iterates; final accuracies must
agree, or the benchmark fails. Compilation is reported apart, as the first call, and of FedJAX not counted either.
Flower's simulation runs its own strategy and the loop's PyTorch clients on two of Ray's actors, and is timed once with
its start; the others take turns. FedJAX, FedLab and Flower take part where they are installed. A ratio above 1 means
that Tendsto is faster.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch

import tendsto as tt
from benchmarks.contest import options, ratios, seconds, show, turns
from tendsto.federated import EF21, FedAvg, TopK, linear, linear_parameters, mlp, mlp_parameters, split
from tendsto.problems import dataset

STEP_SIZE, LOCAL_STEPS = 0.1, 5


def digits() -> tuple[np.ndarray, np.ndarray]:
    features, targets = dataset("digits")
    return np.asarray(features), np.asarray(targets).astype(int)


def federation(model: str, clients: int) -> tuple[tt.federated.Learning, object]:
    data = digits()
    dealt, pixels = split(data, clients, seed=0), data[0].shape[1]
    if model == "softmax":
        return dealt.problem(linear), linear_parameters(pixels, 10)
    return dealt.problem(mlp), mlp_parameters(jax.random.key(0), (pixels, 32, 10))


def with_tendsto(problem: tt.federated.Learning, x0: object, rounds: int) -> float:
    method = FedAvg(STEP_SIZE, steps=LOCAL_STEPS)
    trace = tt.run(method, problem, x0, steps=rounds, record="accuracy", points=1, progress=False)
    return float(trace.final("accuracy")[0])


Rows = tuple[torch.Tensor, torch.Tensor]


def rows_of(problem: tt.federated.Learning) -> list[Rows]:
    """Features and labels of each client."""
    samples, sizes = problem.samples, np.asarray(problem.samples.sizes)
    return [
        (torch.tensor(np.asarray(samples.features[i, :size])), torch.tensor(np.asarray(samples.targets[i, :size])))
        for i, size in enumerate(sizes)
    ]


def start_of(x0: object) -> list[torch.Tensor]:
    layers = [x0] if isinstance(x0, dict) else x0
    return [torch.tensor(np.asarray(layer[part])) for layer in layers for part in ("weights", "bias")]


def trained(shared: list[torch.Tensor], features: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
    """The parameters after one client's local steps."""
    loss = torch.nn.CrossEntropyLoss()
    local = [leaf.clone().requires_grad_() for leaf in shared]
    optimizer = torch.optim.SGD(local, STEP_SIZE)
    for _ in range(LOCAL_STEPS):
        optimizer.zero_grad()
        loss(_forward(local, features), targets).backward()
        optimizer.step()
    return [leaf.detach() for leaf in local]


def accuracy(shared: list[torch.Tensor], rows: list[Rows]) -> float:
    right = sum(int((_forward(shared, features).argmax(1) == targets).sum()) for features, targets in rows)
    return right / sum(len(targets) for _, targets in rows)


def with_torch(problem: tt.federated.Learning, x0: object, rounds: int) -> float:
    """A model, an optimiser and a loop over clients."""
    shared, rows = start_of(x0), rows_of(problem)
    for _ in range(rounds):
        moved = [trained(shared, *each) for each in rows]
        shared = [torch.mean(torch.stack(leaves), dim=0) for leaves in zip(*moved, strict=True)]
    return accuracy(shared, rows)


def _forward(parameters: list[torch.Tensor], features: torch.Tensor) -> torch.Tensor:
    for place in range(0, len(parameters), 2):
        features = (torch.relu(features) if place else features) @ parameters[place] + parameters[place + 1]
    return features


@functools.cache
def of_flower(model: str, clients: int) -> list[Rows]:
    """Each of Ray's actors loads the data once."""
    torch.set_num_threads(1)
    jax.config.update("jax_enable_x64", True)
    return rows_of(federation(model, clients)[0])


def with_flower(model: str, clients: int, rounds: int) -> tuple[float, float]:
    """Seconds of Flower's simulation on two actors, its own strategy and PyTorch's clients; and the accuracy."""
    from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp
    from flwr.serverapp import ServerApp
    from flwr.serverapp import strategy as strategies
    from flwr.simulation import run_simulation

    problem, x0 = federation(model, clients)
    client, server, found = ClientApp(), ServerApp(), []

    @client.train()
    def train(message, context):
        from benchmarks.federated.simulation import of_flower, trained

        rows = of_flower(model, clients)[int(context.node_config["partition-id"])]
        shared = [torch.tensor(leaf) for leaf in message.content["arrays"].to_numpy_ndarrays()]
        arrays = ArrayRecord([leaf.numpy() for leaf in trained(shared, *rows)])
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})
        return Message(content=content, reply_to=message)

    @server.main()
    def main(grid, _):
        averaging = strategies.FedAvg(fraction_train=1.0, fraction_evaluate=0.0)
        arrays = ArrayRecord([leaf.numpy() for leaf in start_of(x0)])
        found.append(averaging.start(grid, arrays, num_rounds=rounds).arrays.to_numpy_ndarrays())

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 2}}
    took = seconds(run_simulation, server, client, clients, "ray", resources)
    return took, accuracy([torch.tensor(leaf) for leaf in found[0]], rows_of(problem))


def fedjax_on(problem: tt.federated.Learning, x0: object, rounds: int) -> Callable[[], float]:
    """Its algorithm, optimisers and data sets; a batch is a client's data, with a row twice where it has one less."""
    jax.tree_map = jax.tree.map  # its last version calls it by the name that it had
    import fedjax

    samples, sizes = problem.samples, np.asarray(problem.samples.sizes)
    rows = {
        str(number): {"x": np.asarray(samples.features[number, :size]), "y": np.asarray(samples.targets[number, :size])}
        for number, size in enumerate(sizes)
    }

    def loss(x, batch, _):
        chances = jax.nn.log_softmax(problem.predict(x, batch["x"]))
        return -jnp.mean(jnp.take_along_axis(chances, batch["y"][:, None], 1))

    sgd, batches = fedjax.optimizers.sgd, fedjax.ShuffleRepeatBatchHParams
    algorithm = fedjax.algorithms.fed_avg.federated_averaging(
        jax.grad(loss), sgd(STEP_SIZE), sgd(1.0), batches(int(sizes.max()), num_epochs=None, num_steps=LOCAL_STEPS)
    )
    data = fedjax.InMemoryFederatedData(rows)
    called = [(name, rows, jax.random.PRNGKey(0)) for name, rows in data.clients()]

    def with_fedjax() -> float:
        state = algorithm.init(x0)
        for _ in range(rounds):
            state, _ = algorithm.apply(state, called)
        return float(problem.accuracy(state.params))

    return with_fedjax


def with_fedlab(problem: tt.federated.Learning, x0: object, rounds: int) -> float:
    """Its server, its serial trainer and its pipeline in one process; one batch is all of a client's data."""
    from fedlab.contrib.algorithm.basic_client import SGDSerialClientTrainer
    from fedlab.contrib.algorithm.basic_server import SyncServerHandler
    from fedlab.core.standalone import StandalonePipeline

    rows, leaves = rows_of(problem), start_of(x0)
    layers: list[torch.nn.Module] = []
    for weights, bias in zip(leaves[::2], leaves[1::2], strict=True):
        layer = torch.nn.Linear(*weights.shape, dtype=torch.float64)
        layer.weight.data, layer.bias.data = weights.T.contiguous(), bias.clone()
        layers += [torch.nn.ReLU(), layer] if layers else [layer]
    model = torch.nn.Sequential(*layers)

    class Clients:
        def get_dataloader(self, number: int, batch_size: int) -> list[Rows]:
            return [rows[number]]

    class Silent(StandalonePipeline):
        def evaluate(self) -> None:
            """It prints a hint here."""

    server = SyncServerHandler(model, rounds, 1.0)
    trainer = SGDSerialClientTrainer(model, len(rows))
    trainer.setup_dataset(Clients())
    trainer.setup_optim(LOCAL_STEPS, len(rows), STEP_SIZE)
    Silent(server, trainer).main()
    with torch.no_grad():
        right = sum(int((server.model(features).argmax(1) == targets).sum()) for features, targets in rows)
    return right / sum(len(targets) for _, targets in rows)


def averaging(quick: bool) -> list[dict]:
    clients, rounds = (20, 5) if quick else (100, 20)
    rows = []
    for model in ("softmax", "perceptron"):
        problem, x0 = federation(model, clients)
        first = seconds(with_tendsto, problem, x0, rounds)
        expected = with_tendsto(problem, x0, rounds)
        reached = with_torch(problem, x0, rounds)
        assert abs(reached - expected) < 2e-3, (model, expected, reached)
        contenders = {
            "tendsto": functools.partial(with_tendsto, problem, x0, rounds),
            "PyTorch loop": functools.partial(with_torch, problem, x0, rounds),
        }
        if importlib.util.find_spec("fedjax"):
            contenders["FedJAX"] = fedjax_on(problem, x0, rounds)
            reached = contenders["FedJAX"]()
            assert abs(reached - expected) < 2e-3, (model, expected, reached)
        if importlib.util.find_spec("fedlab"):
            reached = with_fedlab(problem, x0, rounds)
            assert abs(reached - expected) < 2e-3, (model, expected, reached)
            contenders["FedLab"] = functools.partial(with_fedlab, problem, x0, rounds)
        times = turns(contenders, 3)
        row = {"model": model, "clients": clients, "rounds": rounds, "accuracy": expected}
        row |= {"tendsto_seconds": float(np.median(times["tendsto"])), "first_call_seconds": first}
        row |= {name.replace(" ", "_"): ratio for name, ratio in ratios(times).items()}
        row["Flower_simulation"] = "not installed"
        if importlib.util.find_spec("flwr") and importlib.util.find_spec("ray"):
            took, reached = with_flower(model, clients, rounds)
            assert abs(reached - expected) < 2e-3, (model, expected, reached)
            row["Flower_simulation"] = took / row["tendsto_seconds"]
        rows.append(row)
    return rows


def many_clients(clients: int, rounds: int) -> dict:
    """EF21 with top-1 on quadratics in dimension 20: seconds with compilation, and peak memory of the process."""
    problem = tt.federated.random_quadratics(jax.random.key(0), clients, 20)
    method = EF21(TopK(1), 0.01)
    took = seconds(lambda: tt.run(method, problem, jnp.ones(20), steps=rounds, points=1, progress=False).x)
    # A child's ru_maxrss starts at its parent's; this is of its own memory alone.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split()[0]) / 1024
    return {"clients": clients, "rounds": rounds, "seconds": took, "peak_mib": peak}


def in_a_process(clients: int, rounds: int) -> dict:
    code = (
        "import jax; jax.config.update('jax_enable_x64', True); import json;"
        f"from benchmarks.federated.simulation import many_clients as go; print(json.dumps(go({clients}, {rounds})))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def main() -> None:
    chosen = options(__doc__)
    torch.set_num_threads(2)
    show("Federated averaging on digits, 64-bit floats", averaging(chosen.quick), as_json=chosen.json)
    sizes = (10, 100, 1_000) if chosen.quick else (10, 100, 1_000, 10_000)
    rounds = 100 if chosen.quick else 1_000
    show("EF21 as clients grow", [in_a_process(size, rounds) for size in sizes], as_json=chosen.json)


if __name__ == "__main__":
    main()
