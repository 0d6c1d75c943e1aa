"""Policies that ask a model: a real, small one, on this machine and behind a server that speaks OpenAI's shapes."""

from __future__ import annotations

import math
import shutil
import threading
from itertools import product

import pytest
from chat_endpoint import choices, serving

from tendsto.assistants import Opening, RocqSession, State
from tendsto.proof.automation import Closer, Portfolio
from tendsto.proof.corpus import Premise
from tendsto.proof.draft import DraftSketchProve
from tendsto.proof.language_models import ChatModel, TransformersPolicy, packed
from tendsto.proof.policies import PolicyUnavailable

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("httpx2")

WORDS = ["simpl.", "auto.", "intros", "x.", "rewrite", "<a>", "</a>", "H."]
OPENING = Opening(("Require Import List.",), "Lemma t : True.")
STATE = State(OPENING, (), (), "simpl. rewrite H.")


def lemma(name: str, code: str) -> Premise:
    return Premise("a.v", f"a.{name}", "theorem", 0, 1, code)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """A causal and an encoder-decoder model with random weights and a vocabulary of tactics."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    torch.manual_seed(0)
    common = {"vocab_size": len(vocabulary), "pad_token_id": 0, "eos_token_id": 1}
    causal = transformers.GPT2Config(n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, **common)
    both = transformers.T5Config(
        d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0, **common
    )
    found = {}
    for name, model in (
        ("causal", transformers.GPT2LMHeadModel(causal)),
        ("both", transformers.T5ForConditionalGeneration(both)),
    ):
        with torch.no_grad():
            for weights in model.parameters():
                weights.mul_(4.0)  # from nearly uniform to opinionated
        folder = str(tmp_path_factory.mktemp(name))
        model.save_pretrained(folder)
        fast.save_pretrained(folder)
        found[name] = folder
    return found


def log_probabilities(folder: str, text: str) -> dict[str, list[float]]:
    """By the model's own forward pass: the texts of two tokens, or of one and the end, and the scores that each has."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = transformers.T5ForConditionalGeneration if config.is_encoder_decoder else transformers.GPT2LMHeadModel
    model = kind.from_pretrained(folder).eval()
    read = tokenizer(text, return_tensors="pt")["input_ids"]
    pairs = torch.tensor([(first, second) for first, second in product(range(len(tokenizer)), repeat=2) if first != 1])
    read = read.expand(len(pairs), -1)
    with torch.no_grad():
        if config.is_encoder_decoder:
            start = torch.zeros(len(pairs), 1, dtype=torch.long)
            logits = model(input_ids=read, decoder_input_ids=torch.cat([start, pairs[:, :1]], 1)).logits
        else:
            logits = model(torch.cat([read, pairs], 1)).logits[:, read.shape[1] - 1 : -1]
    scores = torch.log_softmax(logits, -1).gather(2, pairs[:, :, None]).sum((1, 2))
    found: dict[str, list[float]] = {}
    for words, score in zip(pairs.tolist(), scores.tolist(), strict=True):
        found.setdefault(_first_sentence(tokenizer.decode(words, skip_special_tokens=True)), []).append(score)
    return found


@pytest.mark.parametrize("kind", ["causal", "both"])
def test_the_score_of_a_tactic_is_the_sum_of_its_tokens_log_probabilities(folders, kind):
    policy = TransformersPolicy(folders[kind], max_new_tokens=2)
    exact = log_probabilities(folders[kind], STATE.text)
    suggestions = policy.suggest(STATE, (), 8)
    assert len(suggestions) >= 2
    for tactic, score in suggestions:
        assert min(abs(score - value) for value in exact[tactic]) < 1e-4
    scores = [score for _, score in suggestions]
    assert scores == sorted(scores, reverse=True)
    assert len({tactic for tactic, _ in suggestions}) == len(suggestions)
    assert not any("<a>" in tactic for tactic, _ in suggestions)
    assert sum(map(math.exp, scores)) <= 1 + 1e-4
    assert policy.suggest(STATE, (), 8) == suggestions
    likeliest = max((max(values), tactic) for tactic, values in exact.items() if tactic)
    wide = policy.suggest(STATE, (), 32)[0]  # so many beams keep every first token
    assert (wide.log_probability, wide.tactic) == (pytest.approx(likeliest[0], abs=1e-4), likeliest[1])


def _first_sentence(text: str) -> str:
    plain = text.replace("<a>", "").replace("</a>", "").strip()
    if not plain:
        return ""
    words = plain.split()
    ends = [place for place, word in enumerate(words) if word.endswith(".")]
    if not ends:
        return f"{plain}."
    upto = plain.index(words[ends[0]]) + len(words[ends[0]])
    return plain[:upto]


def test_one_tactic_is_the_first_of_several(folders):
    policy = TransformersPolicy(folders["both"], max_new_tokens=2)
    assert policy.suggest(STATE, (), 1) == policy.suggest(STATE, (), 2)[:1]


def test_premises_change_what_is_suggested(folders):
    policy = TransformersPolicy(folders["both"], max_new_tokens=2)
    alone = policy.suggest(STATE, (), 4)
    assert policy.suggest(STATE, [lemma("p", "auto. auto. H.")], 4) != alone
    assert TransformersPolicy(folders["both"], max_new_tokens=2, input_bytes=20).suggest(
        STATE, [lemma("p", "auto. auto. H.")], 4
    ) == TransformersPolicy(folders["both"], max_new_tokens=2, input_bytes=20).suggest(STATE, (), 4)


def test_premises_are_packed_by_rank_next_to_the_state_and_what_does_not_fit_is_skipped():
    assert packed(["first", "second"], "state", 100) == "second\n\nfirst\n\nstate"
    assert packed(["first", "x" * 99, "third"], "state", 19) == "third\n\nfirst\n\nstate"
    assert packed(["first", "x" * 99, "third"], "state", 18) == "first\n\nstate"
    assert packed(["first"], "a state longer than the limit", 5) == "a state longer than the limit"


def test_the_limit_counts_bytes_of_utf_8():
    assert packed(["∀∀"], "⊢", 11) == "∀∀\n\n⊢"  # 6 + 2 + 3 bytes, 5 characters
    assert packed(["∀∀"], "⊢", 10) == "⊢"
    text = packed([f"lemma_{n} : ∀ x, x ≤ {n}" for n in range(500)], "⊢ 0 ≤ 0")
    assert 2300 - 26 < len(text.encode()) <= 2300
    assert text.endswith("lemma_1 : ∀ x, x ≤ 1\n\nlemma_0 : ∀ x, x ≤ 0\n\n⊢ 0 ≤ 0")


def test_a_real_model_behind_an_endpoint_is_asked_and_its_probabilities_are_kept(folders):
    tokenizer = transformers.AutoTokenizer.from_pretrained(folders["causal"])
    model = transformers.GPT2LMHeadModel.from_pretrained(folders["causal"]).eval()
    told: dict[str, float] = {}

    def answer(request, _):
        read = tokenizer(request["messages"][1]["content"], return_tensors="pt")
        torch.manual_seed(0)
        written = model.generate(
            **read, do_sample=True, top_k=0, num_return_sequences=request["n"], max_new_tokens=3,
            temperature=request["temperature"], pad_token_id=0,
        )  # fmt: skip
        texts, scores = [], []
        for sequence in written:
            new = sequence[read["input_ids"].shape[1] :]
            new = new[: int((new == 1).nonzero()[0]) + 1] if (new == 1).any() else new
            whole = torch.cat([read["input_ids"][0], new])
            with torch.no_grad():
                logits = torch.log_softmax(model(whole[None]).logits[0, -len(new) - 1 : -1], -1)
            scores.append(logits[range(len(new)), new].tolist())
            texts.append(tokenizer.decode(new, skip_special_tokens=True))
            told.setdefault(_first_sentence(texts[-1]), sum(scores[-1]))
        return 200, {}, choices(texts, scores)

    with serving(answer) as (address, endpoint):
        chat = ChatModel("tiny", address, api_key="secret", temperature=1.0, samples=12)
        found = chat.suggest(STATE, [lemma("p", "auto."), lemma("q", "H.")], 64)
    assert endpoint.paths == ["/v1/chat/completions"]
    assert endpoint.headers[0]["Authorization"] == "Bearer secret"
    assert "secret" not in repr(chat)
    request = endpoint.requests[0]
    assert (request["model"], request["n"], request["temperature"], request["logprobs"]) == ("tiny", 12, 1.0, True)
    assert request["messages"][1]["content"] == "H.\n\nauto.\n\nsimpl. rewrite H."
    assert len(found) >= 2
    told.pop("", None)
    assert {tactic: pytest.approx(score) for tactic, score in told.items()} == dict(found)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert chat.tokens == 10


def test_where_no_probabilities_are_told_a_tactic_has_its_share_of_the_answers():
    texts = ["auto.", "simpl. auto.", "```coq\nauto.\n```", "rewrite <a>H</a>", ""]
    with serving(lambda request, _: (200, {}, choices(texts))) as (address, _):
        found = ChatModel("m", address, samples=5).suggest(STATE, (), 10)
    assert dict(found) == {
        "auto.": pytest.approx(math.log(2 / 5)),
        "simpl.": pytest.approx(math.log(1 / 5)),
        "rewrite H.": pytest.approx(math.log(1 / 5)),
    }


def test_a_server_that_gives_one_answer_at_a_time_is_asked_again():
    with serving(lambda request, count: (200, {}, choices([f"tactic{count}."]))) as (address, endpoint):
        chat = ChatModel("m", address, samples=3)
        assert len(chat.suggest(STATE, (), 10)) == 3
        assert [it["n"] for it in endpoint.requests] == [3, 2, 1]
        assert len(chat.suggest(STATE, (), 2)) == 2  # no more are drawn than asked for
        assert chat.tokens == 50


def test_whole_proofs_come_without_what_stands_around_them():
    texts = [
        "Here it is:\n```coq\nProof.\n  intros.\n  auto.\nQed.\n```\nDone.",
        "exact I.",
        "```\nProof. exact I. Qed.\n```",
        "",
    ]
    with serving(lambda request, _: (200, {}, choices(texts))) as (address, endpoint):
        found = ChatModel("m", address).propose(OPENING, 4, 0.7)
    assert found == ["intros.\n  auto.", "exact I.", "exact I."]
    assert endpoint.requests[0]["temperature"] == 0.7
    assert endpoint.requests[0]["messages"][1]["content"] == "Require Import List.\n\nLemma t : True."


def test_lean_is_written_without_dots_and_with_what_stands_below():
    texts = [
        "intro h\nexact h",
        "```lean\nby\n  simp [<a>h</a>]\n```",
        "cases h with\n| inl => x",
        "rw [a,\n    b]\nsimp",
        "",
    ]
    with serving(lambda request, _: (200, {}, choices(texts))) as (address, endpoint):
        chat = ChatModel("m", address, samples=5, language="Lean 4")
        found = chat.suggest(STATE, (), 10)
        assert "by` block" in endpoint.requests[0]["messages"][0]["content"]
        assert "Lean 4" in endpoint.requests[0]["messages"][0]["content"]
    assert {it.tactic for it in found} == {"intro h", "simp [h]", "cases h with", "rw [a,\n    b]"}
    texts = ["```lean\nby\n  intro h\n  exact h\n```", ":= by\n  simp", "intro h\nexact h", ":= by rfl"]
    with serving(lambda request, _: (200, {}, choices(texts))) as (address, endpoint):
        proofs = ChatModel("m", address, language="Lean 4").propose(OPENING, 4, 0.5)
        assert "`sorry`" in endpoint.requests[0]["messages"][0]["content"]
    assert proofs == ["intro h\nexact h", "simp", "intro h\nexact h", "rfl"]


def test_a_real_model_writes_lean(folders):
    rocq = TransformersPolicy(folders["causal"], max_new_tokens=3).suggest(STATE, (), 4)
    lean = TransformersPolicy(folders["causal"], max_new_tokens=3, language="Lean 4").suggest(STATE, (), 4)
    assert all(it.tactic.endswith(".") for it in rocq)
    assert not all(it.tactic.endswith(".") for it in lean)


def test_the_end_of_a_long_file_is_what_is_sent():
    long = Opening(("(* ∀ *)" * 1000, "Definition last := 1."), "Lemma t : True.")
    with serving(lambda request, _: (200, {}, choices(["exact I."]))) as (address, endpoint):
        ChatModel("m", address, input_bytes=100).propose(long, 1, 0.0)
    sent = endpoint.requests[0]["messages"][1]["content"]
    assert sent.endswith("Definition last := 1.\n\nLemma t : True.")
    assert 98 <= len(sent.removesuffix("\n\nLemma t : True.").encode()) <= 100


def test_what_passes_is_tried_again_and_what_does_not_is_not():
    def busy(request, count):
        return (503, {"Retry-After": "0"}, b"busy") if count < 3 else (200, {}, choices(["auto."]))

    with serving(busy) as (address, endpoint):
        assert ChatModel("m", address, samples=1, wait=9.0).suggest(STATE, (), 1)[0].tactic == "auto."
        assert len(endpoint.requests) == 3
    with serving(lambda request, _: (503, {}, b"busy")) as (address, endpoint):
        with pytest.raises(PolicyUnavailable, match="status 503: busy"):
            ChatModel("m", address, retries=2, wait=0.0).suggest(STATE, (), 1)
        assert len(endpoint.requests) == 3
    with serving(lambda request, _: (401, {}, b"who?")) as (address, endpoint):
        with pytest.raises(PolicyUnavailable, match="status 401: who"):
            ChatModel("m", address).suggest(STATE, (), 1)
        assert len(endpoint.requests) == 1
    with pytest.raises(PolicyUnavailable, match="Connect"):  # nobody listens there any more
        ChatModel("m", address, retries=1, wait=0.0).suggest(STATE, (), 1)


def test_waits_double(monkeypatch):
    slept: list[float] = []
    monkeypatch.setattr("tendsto.proof.language_models.time.sleep", slept.append)
    with serving(lambda request, _: (500, {}, b"")) as (address, _), pytest.raises(PolicyUnavailable):
        ChatModel("m", address, retries=3, wait=2.0).suggest(STATE, (), 1)
    assert slept == [2.0, 4.0, 8.0]


def test_a_slow_endpoint_is_given_up():
    release = threading.Event()

    def slow(request, _):
        release.wait(30)
        return 200, {}, choices(["auto."])

    with serving(slow) as (address, _):
        try:
            with pytest.raises(PolicyUnavailable, match="Timeout"):
                ChatModel("m", address, retries=0, seconds=0.05).suggest(STATE, (), 1)
        finally:
            release.set()


def test_the_budget_of_tokens_ends_the_conversation():
    with serving(lambda request, _: (200, {}, choices(["auto."], tokens=60))) as (address, endpoint):
        chat = ChatModel("m", address, samples=1, token_budget=100)
        chat.suggest(STATE, (), 1)
        chat.suggest(STATE, (), 1)
        with pytest.raises(PolicyUnavailable, match="the budget of 100 tokens is spent"):
            chat.suggest(STATE, (), 1)
        assert (chat.tokens, len(endpoint.requests)) == (120, 2)


@pytest.mark.parametrize("content", [b"<html>", {"choices": []}, {"error": "no"}, [1], {"choices": [{"text": "x"}]}])
def test_an_answer_of_another_form_is_no_suggestion(content):
    with serving(lambda request, _: (200, {}, content)) as (address, _), pytest.raises(PolicyUnavailable):
        ChatModel("m", address).suggest(STATE, (), 1)


@pytest.mark.parametrize(
    ("name", "value"), [("temperature", -1.0), ("samples", 0), ("seconds", 0.0), ("retries", -1), ("token_budget", 0)]
)
def test_arguments_are_checked(name, value):
    with pytest.raises(ValueError, match=f"{name}: must"):
        ChatModel("m", **{name: value})


@pytest.mark.skipif(shutil.which("coqtop") is None, reason="needs Rocq: apt install coq")
def test_a_model_drafts_and_sketches_and_its_gaps_are_filled():
    sketch = (
        "<think>\nas 1 = 1\n</think>\n```\nassert (h : n + 0 = n). { prove_with []. }\nfoo bar.\nrewrite h. foo.\n```"
    )

    def answer(request, count):
        return 200, {}, choices(["<think>hm</think>### Step 1: n + 0 = n" if count == 1 else sketch])

    with serving(answer) as (address, endpoint):
        chat = ChatModel("m", address, token_budget=100)
        dsp = DraftSketchProve(RocqSession, chat, chat, automation=Portfolio((Closer("lia.", 9.0),)))
        report = dsp.prove(Opening(("From Coq Require Import Lia.",), "Lemma t (n : nat) : n + 0 = n."))
    assert report.successes == 1
    assert "assert (h : n + 0 = n)." in report.proof
    assert "foo" not in report.proof
    first, second = endpoint.requests
    assert (first["temperature"], first["top_p"], first["max_tokens"]) == (0.6, 0.95, 32_768)
    assert "Lemma t (n : nat) : n + 0 = n." in first["messages"][0]["content"]
    assert "### Step 1: n + 0 = n" in second["messages"][0]["content"]
    assert "hm" not in second["messages"][0]["content"].replace("theorem", "")
    assert chat.tokens == 20


def test_a_model_that_does_not_answer_ends_the_attempts(tmp_path):
    with serving(lambda request, _: (401, {}, b"who?")) as (address, _):
        chat = ChatModel("m", address)
        dsp = DraftSketchProve(RocqSession, chat, chat, automation=Portfolio(), folder=tmp_path)
        report = dsp.prove(OPENING)
    (attempt,) = report.attempts
    assert attempt.outcome == "open"
    assert "status 401: who?" in attempt.reason
    assert report.proof == ""
