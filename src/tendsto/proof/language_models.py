"""Policies that ask a language model: behind any OpenAI-compatible endpoint, or on this machine by transformers."""

from __future__ import annotations

import math
import os
import re
import textwrap
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tendsto import extras
from tendsto.assistants.protocol import Opening, State
from tendsto.assistants.sentences import sentences
from tendsto.proof.corpus import Premise
from tendsto.proof.policies import PolicyUnavailable, Suggestion
from tendsto.validation import integer, positive, real

INPUT_BYTES = 2300
"""How many bytes of UTF-8 a model reads of premises and state, as in LeanDojo's ReProver."""

LONGEST_WAIT = 60.0
"""The longest time between two tries of a request, in seconds."""

_MARK = re.compile(r"</?a>")
_FENCE = re.compile(r"```[^\n`]*\n(?P<inside>.*?)```", re.DOTALL)
_AROUND = re.compile(r"\A\s*Proof\.|(?:Qed|Defined)\.\s*\Z")
_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

_LEAN_STEP = re.compile(r"\S[^\n]*(?:\n(?:[ \t]+[^\n]*|(?=\n)))*")
_LEAN_AROUND = re.compile(r"\A\s*(?::=\s*)?by\b[ \t]*\n?")

_TACTIC_PROMPT = (
    "You prove theorems in {language}. You are given premises that may help and the state of a proof. Answer with the "
    "next tactic: one sentence that ends with a dot, and nothing else."
)
_PROOF_PROMPT = (
    "You prove theorems in {language}. You are given the end of a file and the statement of a theorem. Answer with a "
    "complete proof in a code block: what stands between `Proof.` and `Qed.`, and nothing else."
)
_LEAN_TACTIC_PROMPT = (
    "You prove theorems in {language}. You are given premises that may help and the state of a proof. Answer with the "
    "next tactic, as it stands in a `by` block, and nothing else."
)
_LEAN_PROOF_PROMPT = (
    "You prove theorems in {language}. You are given the end of a file and the statement of a theorem with `sorry` in "
    "the place of its proof. Answer with the tactics of a complete proof in a code block: what stands after `by`, and "
    "nothing else."
)


def packed(premises: Iterable[str], state: str, limit: int = INPUT_BYTES) -> str:
    """Premises and a state as one text of at most `limit` bytes of UTF-8.

    Premises are taken as they are ranked; one that does not fit is skipped, and a later, shorter one may still fit.
    Each is put *before* those taken so far, with an empty line after it, so the best stands next to the state. A state
    longer than the limit stands alone, whole.

    Source: arXiv 2306.15626, Section 5 (tactic generation), and the reference code, which counts bytes as its model
    ByT5 does.

    **Arguments**

    - `premises`: their texts, the best first.

    ```pycon
    >>> packed(["best", "much too long to fit", "next"], "state", limit=17)
    'next\\n\\nbest\\n\\nstate'

    ```
    """
    left = limit - len(state.encode())
    text = state
    taken = ""
    for premise in premises:
        piece = f"{premise}\n\n"
        size = len(piece.encode())
        if size <= left:
            taken, left = piece + taken, left - size
    return taken + text


@dataclass
class ChatModel:
    """A language model behind an OpenAI-compatible endpoint, as a `TacticPolicy` and a `WholeProofPolicy`.

    Any server that speaks `POST …/chat/completions` will do (vLLM, llama.cpp, Ollama, a vendor's). The log-probability
    of a tactic is the sum over its tokens where the server tells them; else the logarithm of its share of the answers.
    Extra: `proof`.

    **Arguments**

    - `model`: the model's name at the endpoint.
    - `base_url`: where the endpoint is, up to and with `/v1`.
    - `api_key`: sent as a bearer token; by default what the environment variable `OPENAI_API_KEY` holds.
    - `temperature`: of tactics; that of whole proofs is an argument of `propose`.
    - `samples`: how many answers are drawn for a state, at most as many as tactics are asked for.
    - `max_tokens`: the longest answer.
    - `token_budget`: how many tokens, read and written, may be spent in all; `None` for no limit. The request that
      exceeds it is the last.
    - `seconds`: wall time for one request; `retries`: how often it is sent again after a time-out, a lost connection or
      an answer that says so (429, 503, …), after `wait`, 2·`wait`, 4·`wait`, … seconds, or what the server asks for.
    - `language`: what the model is asked to write, Rocq or, if it begins so, `Lean`.
    - `input_bytes`: the most of premises and state that is sent, and of the file before a theorem.

    `tokens` counts what was spent.

    **Raises** `ValueError` or `TypeError` for an argument out of range, `MissingExtra` without the extra.
    """

    model: str
    base_url: str = "http://localhost:8000/v1"
    api_key: str | None = field(default=None, repr=False)
    temperature: float = 1.0
    samples: int = 16
    max_tokens: int = 512
    token_budget: int | None = None
    seconds: float = 120.0
    retries: int = 4
    wait: float = 1.0
    language: str = "Rocq (Coq 8.16)"
    input_bytes: int = INPUT_BYTES
    tokens: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        real("temperature", self.temperature, low=0.0)
        integer("samples", self.samples, low=1)
        integer("max_tokens", self.max_tokens, low=1)
        if self.token_budget is not None:
            integer("token_budget", self.token_budget, low=1)
        positive("seconds", self.seconds)
        integer("retries", self.retries, low=0)
        real("wait", self.wait, low=0.0)
        integer("input_bytes", self.input_bytes, low=1)
        self._http = extras.load("httpx2", extra="proof")

    def suggest(self, state: State, premises: Sequence[Premise], k: int) -> list[Suggestion]:
        """At most `k` different tactics of `samples` answers; see `TacticPolicy.suggest`.

        **Raises** `PolicyUnavailable` if the endpoint does not answer, or the budget is spent.
        """
        asked = packed((it.code for it in premises), state.text, self.input_bytes)
        number = min(k, self.samples)
        prompt = _LEAN_TACTIC_PROMPT if _is_lean(self.language) else _TACTIC_PROMPT
        answers = self._ask(prompt, asked, number, self.temperature, logprobs=True)
        tactics = [(_tactic(text, self.language), log_probability) for text, log_probability in answers]
        if any(log_probability is None for _, log_probability in tactics):
            shares = Counter(tactic for tactic, _ in tactics if tactic)
            return [Suggestion(tactic, math.log(count / len(answers))) for tactic, count in shares.most_common(k)]
        return _merged(((tactic, score) for tactic, score in tactics if score is not None), k)

    def propose(self, opening: Opening, n: int, temperature: float) -> list[str]:
        """At most `n` proofs, in the order of the answers, equal ones repeated; see `WholeProofPolicy.propose`.

        **Raises** `PolicyUnavailable` if the endpoint does not answer, or the budget is spent.
        """
        integer("n", n, low=1)
        real("temperature", temperature, low=0.0)
        before = "\n".join(opening.before).encode()[-self.input_bytes :].decode(errors="ignore")
        prompt = _LEAN_PROOF_PROMPT if _is_lean(self.language) else _PROOF_PROMPT
        answers = self._ask(prompt, f"{before}\n\n{opening.statement}", n, temperature)
        return [proof for text, _ in answers if (proof := _proof(text, self.language))]

    def complete(self, prompt: str, *, temperature: float, top_p: float = 1.0, max_tokens: int | None = None) -> str:
        """The answer to one prompt; what `DraftSketchProve` asks for.

        **Arguments**

        - `top_p`: only the likeliest tokens with this probability together are drawn.
        - `max_tokens`: the longest answer; by default the model's own `max_tokens`.

        **Raises** `PolicyUnavailable` if the endpoint does not answer, or the budget is spent.
        """
        request = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": temperature,
            "top_p": top_p,
            "max_tokens": self.max_tokens if max_tokens is None else max_tokens,
        }
        return self._answers(request)[0][0]

    def _ask(
        self, prompt: str, asked: str, number: int, temperature: float, logprobs: bool = False
    ) -> list[tuple[str, float | None]]:
        """So many answers, each with the logarithm of its probability where the server tells it."""
        found: list[tuple[str, float | None]] = []
        while len(found) < number:
            request = {
                "model": self.model,
                "messages": [
                    {"role": "system", "content": prompt.format(language=self.language)},
                    {"role": "user", "content": asked},
                ],
                "n": number - len(found),
                "temperature": temperature,
                "max_tokens": self.max_tokens,
                **({"logprobs": True} if logprobs else {}),
            }
            found += self._answers(request)  # some servers give one, whatever n is
        return found[:number]

    def _answers(self, request: dict[str, Any]) -> list[tuple[str, float | None]]:
        answer = self._post(request)
        try:
            self.tokens += int((answer.get("usage") or {}).get("total_tokens") or 0)
            choices = [(it["message"]["content"] or "", _log_probability(it)) for it in answer["choices"]]
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise PolicyUnavailable(f"{self.base_url}: the answer has another form: {error!r}") from None
        if not choices:
            raise PolicyUnavailable(f"{self.base_url}: the answer is empty")
        return choices

    def _post(self, request: dict[str, Any]) -> dict[str, Any]:
        if self.token_budget is not None and self.tokens >= self.token_budget:
            raise PolicyUnavailable(f"the budget of {self.token_budget} tokens is spent")
        key = self.api_key if self.api_key is not None else os.environ.get("OPENAI_API_KEY", "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        address = f"{self.base_url.rstrip('/')}/chat/completions"
        reason = ""
        for attempt in range(self.retries + 1):
            pause = self.wait * 2**attempt
            try:
                answer = self._http.post(address, json=request, headers=headers, timeout=self.seconds)
            except self._http.TransportError as error:
                reason = f"{type(error).__name__}: {error}"
            else:
                if answer.status_code == 200:
                    return self._read(answer)
                reason = f"status {answer.status_code}: {answer.text[:200]}"
                if answer.status_code not in _TRY_AGAIN:
                    break
                asked = answer.headers.get("retry-after", "")
                pause = float(asked) if asked.isdecimal() else pause
            if attempt < self.retries:
                time.sleep(min(pause, LONGEST_WAIT))
        raise PolicyUnavailable(f"{self.base_url}: {reason}")

    def _read(self, answer: Any) -> dict[str, Any]:
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise PolicyUnavailable(f"{self.base_url}: the answer is no JSON object: {answer.text[:200]!r}")
        return content


class TransformersPolicy:
    """A model of Hugging Face's `transformers` on this machine, as a `TacticPolicy`: beam search for the next tactic.

    Encoder-decoder models (LeanDojo's ByT5) read premises and state and write the tactic; causal ones continue the
    text. The score of a tactic is the sum of its tokens' log-probabilities, not divided by its length; of answers that
    are equal once the marks `<a>`, `</a>` are removed the first, which is the likeliest, is kept. Nothing is
    downloaded: `model` is a folder. Extra: `torch`.

    **Arguments**

    - `model`: a folder that `save_pretrained` has written, with the tokenizer.
    - `input_bytes`: the most of premises and state that the model reads; what is longer (a long state) is cut, for a
      causal model at its beginning.
    - `max_new_tokens`: the longest tactic.
    - `device`: where it runs, as PyTorch names it.
    - `language`: what the model was trained on, Rocq or, if it begins so, `Lean`.

    **Raises** `OSError` if the folder holds no model, `MissingExtra` without the extra.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        input_bytes: int = INPUT_BYTES,
        max_new_tokens: int = 512,
        device: str = "cpu",
        language: str = "Rocq",
    ) -> None:
        integer("input_bytes", input_bytes, low=1)
        integer("max_new_tokens", max_new_tokens, low=1)
        self._torch = extras.load("torch", extra="torch")
        transformers = extras.load("transformers", extra="torch")
        self.input_bytes, self.max_new_tokens, self.device = input_bytes, max_new_tokens, device
        self.language = language
        config = transformers.AutoConfig.from_pretrained(model, local_files_only=True)
        self._encoder_decoder = bool(config.is_encoder_decoder)
        kind = transformers.AutoModelForSeq2SeqLM if self._encoder_decoder else transformers.AutoModelForCausalLM
        self._model = kind.from_pretrained(model, local_files_only=True).to(device).eval()
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(
            model, local_files_only=True, truncation_side="right" if self._encoder_decoder else "left"
        )

    def suggest(self, state: State, premises: Sequence[Premise], k: int) -> list[Suggestion]:
        """The likeliest of the sequences that `k` beams find, two at least; see `TacticPolicy.suggest`."""
        integer("k", k, low=1)
        text = packed((it.marked() for it in premises), state.text, self.input_bytes)
        longest = min(self.input_bytes, self._tokenizer.model_max_length)
        read = self._tokenizer(text, return_tensors="pt", truncation=True, max_length=longest).to(self.device)
        beams = max(k, 2)  # one beam would be greedy search, which gives no scores
        with self._torch.no_grad():
            written = self._model.generate(
                input_ids=read["input_ids"],
                attention_mask=read["attention_mask"],
                num_beams=beams,
                num_return_sequences=beams,
                length_penalty=0.0,
                do_sample=False,
                early_stopping=False,
                max_new_tokens=self.max_new_tokens,
                pad_token_id=self._padding(),
                output_scores=True,
                return_dict_in_generate=True,
            )
        sequences = written.sequences
        if not self._encoder_decoder:
            sequences = sequences[:, read["input_ids"].shape[1] :]
        texts = self._tokenizer.batch_decode(sequences, skip_special_tokens=True)
        scores = written.sequences_scores.tolist()
        return _merged(((_tactic(text, self.language), score) for text, score in zip(texts, scores, strict=True)), k)

    def _padding(self) -> int:
        padding = self._tokenizer.pad_token_id
        return int(padding if padding is not None else self._tokenizer.eos_token_id)


def _merged(answers: Iterable[tuple[str, float]], k: int) -> list[Suggestion]:
    """Different tactics, the most probable first; of equal ones the first counts."""
    first: dict[str, float] = {}
    for tactic, log_probability in answers:
        if tactic:
            first.setdefault(tactic, log_probability)
    order = sorted(first, key=lambda it: -first[it])
    return [Suggestion(tactic, first[tactic]) for tactic in order[:k]]


def _log_probability(choice: dict[str, Any]) -> float | None:
    tokens = (choice.get("logprobs") or {}).get("content")
    return math.fsum(float(it["logprob"]) for it in tokens) if tokens else None


def _is_lean(language: str) -> bool:
    return language.casefold().startswith("lean")


def _tactic(text: str, language: str) -> str:
    """The first tactic of an answer, without marks and code fence; "" if there is none.

    In Rocq that is a sentence, in Lean a line with those below it that stand further to the right.
    """
    plain = _unwrapped(text)
    if _is_lean(language):
        step = _LEAN_STEP.search(_LEAN_AROUND.sub("", plain))
        return step[0].rstrip() if step else ""
    for whole in (plain, f"{plain}."):
        try:
            found = sentences(whole)
        except ValueError:  # it does not end
            continue
        return found[0].text if found else ""
    return ""


def _proof(text: str, language: str) -> str:
    plain = _unwrapped(text)
    if _is_lean(language):
        return textwrap.dedent(_LEAN_AROUND.sub("", plain)).strip()
    while (shorter := _AROUND.sub("", plain).strip()) != plain:
        plain = shorter
    return plain


def _unwrapped(text: str) -> str:
    found = _FENCE.search(text)
    return _MARK.sub("", found["inside"] if found else text).strip()
