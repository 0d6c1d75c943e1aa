"""Draft, sketch, prove: with a user's sketch and no model, with models, in attempts that are resumed and counted."""

import itertools
import json
import math
import shutil

import numpy as np
import pytest
from rocq_texts import SQUARES, Tries
from scipy import stats

from tendsto.assistants import Opening, RocqSession
from tendsto.papers.hybridprover import kernel_of, lent
from tendsto.proof.draft import DraftSketchProve, after_thought, code_block, pass_at_k
from tendsto.proof.policies import PolicyUnavailable

needs_rocq = pytest.mark.skipif(shutil.which("coqtop") is None, reason="needs Rocq: apt install coq")

SKETCH = "assert (h1 : n * n <= n * m). { prove_with [H]. } assert (h2 : n * m <= m * m). { prove_with [H]. } lia."


@pytest.fixture(scope="module")
def session():
    with RocqSession() as one:
        yield one


class Answers:
    """A model with prepared answers, which remembers what it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = itertools.cycle(answers), []

    def complete(self, prompt, *, temperature, top_p, max_tokens):
        self.asked.append((prompt, temperature))
        return next(self.answers)


def pipeline(session, **options):
    return DraftSketchProve(lent(session), **({"automation": Tries(), "check": kernel_of(session)} | options))


@needs_rocq
def test_a_users_sketch_needs_no_model_and_one_attempt(session):
    report = pipeline(session, sketch=f"{SQUARES.statement} Proof. {SKETCH} Qed.").prove(SQUARES)
    (attempt,) = report.attempts
    assert (attempt.outcome, attempt.holes, attempt.filled, attempt.masked) == ("proved", 2, 2, 0)
    assert report.proof == attempt.script
    assert report.successes == 1


@needs_rocq
def test_what_is_not_proved_is_told(session):
    outcomes = {}
    for text in (SKETCH, "Lemma t : True. Proof. exact I. Qed.", "lia"):
        (attempt,) = pipeline(session, sketch=text, automation=Tries("foo.")).prove(SQUARES).attempts
        outcomes[attempt.outcome] = attempt.reason
    assert set(outcomes) == {"open", "unusable"}
    assert "hole 0: nothing works; hole 1" in outcomes["open"]


@needs_rocq
def test_the_models_are_asked_in_turn(session):
    draft = Answers("<think>hm</think>\n### Step 1: n n <= n m")
    writer = Answers(f"Sure:\n```coq\nRequire Import Lia.\n{SQUARES.statement}\nProof.\n{SKETCH}\nQed.\n```\nDone.")
    report = pipeline(session, draft=draft, sketch=writer).prove(SQUARES)
    assert report.successes == 1
    assert SQUARES.statement in draft.asked[0][0]
    assert "think" not in writer.asked[0][0]
    assert "### Step 1: n n <= n m" in writer.asked[0][0]
    assert (draft.asked[0][1], writer.asked[0][1]) == (0.6, 0.7)


def source(*texts):
    return lambda opening, draft, number: texts[number % len(texts)]


@needs_rocq
def test_attempts_end_at_the_first_proof_or_go_on(session):
    texts = ("lia", SKETCH, SKETCH)
    found = pipeline(session, sketch=source(*texts), attempts=4).prove(SQUARES)
    assert [it.outcome for it in found.attempts] == ["unusable", "proved"]
    found = pipeline(session, sketch=source(*texts), attempts=4, stop_at_first=False).prove(SQUARES)
    assert [it.outcome for it in found.attempts] == ["unusable", "proved", "proved", "unusable"]
    assert found.successes == 2


@needs_rocq
def test_a_model_that_does_not_answer_ends_the_attempts_and_is_asked_again(session, tmp_path):
    class Silent:
        def complete(self, prompt, **_):
            raise PolicyUnavailable("nobody is there")

    def run(sketch):
        return pipeline(session, sketch=sketch, attempts=3, folder=tmp_path).prove(SQUARES).attempts

    (silent,) = run(Silent())
    assert (silent.number, silent.outcome, silent.reason) == (0, "open", "nobody is there")
    (answered,) = run(Answers(SKETCH))
    assert answered.outcome == "proved"


@needs_rocq
def test_a_run_that_was_stopped_goes_on_from_what_is_there(session, tmp_path):
    draft, writer = Answers("d"), Answers(SKETCH)

    def dies(*_):
        raise KeyboardInterrupt

    options = {"draft": draft, "sketch": writer, "folder": tmp_path, "attempts": 2, "stop_at_first": False}
    with pytest.raises(KeyboardInterrupt):
        pipeline(session, **options, check=dies).prove(SQUARES)
    (path,) = tmp_path.iterdir()
    assert {"draft", "sketch"} < set(json.loads(path.read_text()))
    assert "outcome" not in json.loads(path.read_text())
    told = []
    first = pipeline(session, **options).prove(SQUARES, on_attempt=told.append)
    assert (len(draft.asked), len(writer.asked)) == (2, 2)
    assert told == list(first.attempts)
    again = pipeline(session, **options, automation=Tries("foo.")).prove(SQUARES)
    assert again == first
    assert len(writer.asked) == 2
    with pytest.raises(ValueError, match=r"folder: .* another theorem"):
        pipeline(session, **options).prove(Opening(SQUARES.before, "Lemma t : True."))


@needs_rocq
def test_hints_are_used_unless_not_wanted(session):
    for use in (True, False):
        solver = Tries("nia.")
        text = "assert (k : n = n). { reflexivity. } assert (h : n * n <= n * m). { prove_with [H]. } nia."
        pipeline(session, sketch=text, automation=solver, use_hints=use).prove(SQUARES)
        assert ("k" in dict(solver.asked[0].goals[0].hypotheses)) != use


def test_what_a_model_says_besides_is_cut_off():
    assert after_thought("<think>a</think>b</think> c ") == "c"
    assert after_thought("c") == "c"
    assert code_block("x\n```coq\na.\n```\ny\n```\nb.\n```") == "b."
    assert code_block("<think>```\na.\n```</think> b.") == "b."


def test_bad_input_names_the_argument(session):
    for options, name in (
        ({"attempts": 0}, "attempts"),
        ({"sketch": " "}, "sketch"),
        ({"automation": None}, "automation"),
    ):
        with pytest.raises(ValueError, match=f"{name}: "):
            pipeline(session, **({"sketch": SKETCH} | options))


def every_subset(outcomes, k):
    return np.mean([any(chosen) for chosen in itertools.combinations(outcomes, k)])


@pytest.mark.parametrize("k", [1, 2, 3, 5, 7])
def test_pass_at_k_is_the_mean_over_all_subsets(k):
    outcomes = [[True] * c + [False] * (7 - c) for c in (0, 1, 3, 7)]
    found = pass_at_k([0, 1, 3, 7], 7, k)
    assert found.value == pytest.approx(np.mean([every_subset(one, k) for one in outcomes]), abs=1e-12)
    assert found.low <= found.value <= found.high
    assert pass_at_k([3], 7, k).value == pytest.approx(1 - math.comb(4, k) / math.comb(7, k), abs=1e-12)


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    truth = np.mean([1 - (1 - p) ** 2 for p in np.linspace(0, 1, 1001)])
    inside = 0
    for seed in range(100):
        counts = generator.binomial(10, generator.uniform(size=40))
        found = pass_at_k(counts, 10, 2, seed=seed)
        inside += found.low <= truth <= found.high
    assert 86 <= inside <= 100


@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_interval_ends_at_quantiles_of_the_resampled_mean(confidence):
    """Of 400 theorems of which 120 are always proved a resample proves a binomial number."""
    found = pass_at_k([5] * 120 + [0] * 280, 5, 2, confidence=confidence)
    ends = stats.binom.ppf([(1 - confidence) / 2, (1 + confidence) / 2], 400, 0.3) / 400
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=1.5 / 400)


@pytest.mark.parametrize(
    ("successes", "attempts", "k", "error", "name"),
    [([5], 4, 1, ValueError, "successes"), ([-1], 4, 1, ValueError, "successes"), ([], 4, 1, TypeError, "successes"),
     ([0.5], 4, 1, TypeError, "successes"), ([1], 4, 5, ValueError, "k"), ([1], 0, 1, ValueError, "attempts")],
)  # fmt: skip
def test_counts_out_of_range_are_named(successes, attempts, k, error, name):
    with pytest.raises(error, match=f"{name}: "):
        pass_at_k(successes, attempts, k)
