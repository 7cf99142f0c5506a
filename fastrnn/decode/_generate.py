"""generate and stream_generate: the doors to everything else in this package."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastrnn._arrays import ArrayLike
from fastrnn.decode._generation import Generation
from fastrnn.decode._options import Options, as_prompts
from fastrnn.decode._sampling import Sampling
from fastrnn.decode._search import Search
from fastrnn.decode._stepper import Decodable, check_model
from fastrnn.decode.automaton import Automaton

Ids = Sequence[int]


def generate(
    model: Decodable,
    prompt: ArrayLike,
    *,
    max_new_tokens: int,
    min_new_tokens: int = 0,
    do_sample: bool = False,
    temperature: float = 1.0,
    top_k: int | None = 0,
    top_p: float = 1.0,
    min_p: float = 0.0,
    typical_p: float = 1.0,
    num_beams: int = 1,
    num_beam_groups: int = 1,
    diversity_penalty: float = 0.0,
    num_return_sequences: int = 1,
    length_penalty: float = 1.0,
    length_penalty_form: str = "power",
    early_stopping: bool | str = False,
    patience: float = 1.0,
    repetition_penalty: float = 1.0,
    no_repeat_ngram_size: int = 0,
    eos_token_id: int | Ids | None = None,
    bad_words_ids: Sequence[Ids] | None = None,
    forced_tokens: Mapping[int, int] | Ids | None = None,
    forced_bos_token_id: int | None = None,
    forced_eos_token_id: int | None = None,
    suppress_tokens: Ids | None = None,
    begin_suppress_tokens: Ids | None = None,
    logits_processor: Callable[..., Any] | Sequence[Callable[..., Any]] | None = None,
    constraint: Automaton | None = None,
    stop: Sequence[Ids] | None = None,
    seed: int | None = None,
    coverage_penalty: float = 0.0,
) -> list[Generation]:
    """Continue one prompt (ids) or several of any lengths; one Generation per returned sequence.

    Results come prompt by prompt, the best score first. A model has `vocab_size` and
    `stream(batch_size)`, see `fastrnn.decode.Decodable`: a LanguageModel, or a Seq2Seq with its
    sources, `model.with_source(source, lengths)`, and a prompt [bos] for each of them. Names and
    meanings are those of Hugging Face's `generate`, in its order: repetition_penalty,
    no_repeat_ngram_size, bad_words_ids, min_new_tokens, forced tokens, suppressed tokens,
    logits_processor, constraint, temperature, top_k, top_p, min_p, typical_p.

    - Greedy by default; `do_sample` draws tokens, `num_beams` > 1 searches. Ties go to the lowest
      id; between beams to the higher sum of log-probabilities, the lower parent, the lower id.
    - temperature 0 is the argmax, infinity is uniform over what is allowed. top_k keeps exactly k
      tokens, top_p and typical_p as few as reach their share. With beams, top_k is how many tokens
      each beam may branch into.
    - `seed` (0 to 2**64 - 1) and the number of the returned sequence decide every draw, so a prompt
      gives the same in any batch; equal prompts give equal results (num_return_sequences gives
      different ones). None draws a new seed for every prompt.
    - `logprobs` of a greedy or sampled token are the model's own; of beams those that count: after
      processors. score = sum / length ** length_penalty, or with length_penalty_form "gnmt" / ((5 +
      length) / 6) ** length_penalty.
    - early_stopping False, True or "never" as there; a group of beams collects patience * beams
      finished sequences. Groups subtract diversity_penalty for every beam of an earlier group that
      took the token in the same step (Vijayakumar et al. 2018).
    - `forced_tokens` are the first new ids, or a mapping from positions to ids; no rule before them
      in the order forbids them, and beams count them as 0. begin_suppress_tokens are those of the
      first position that is not forced. `stop` holds sequences of ids that end the text (from
      min_new_tokens on) and stay in it; with a constraint only where that accepts the text.
    - logits_processor(tokens, logits): one function or several, called for every row with its
      prompt and new ids (T,) and logits (V,) to change or replace.
    - `constraint`: new tokens, without the end token, are one of an automaton's sequences, however
      they end: complete within max_new_tokens, not before min_new_tokens. A ValueError where there
      is none between the two.

    Unlike there: top_k is off unless given (there 50); top_k and typical_p keep no ties;
    forced_bos_token_id acts behind any prompt (there behind a single token only); bad_words_ids may
    forbid the end token; do_sample and num_beams > 1 exclude each other; and an error says so where
    the rules leave no token, or fewer sequences than num_return_sequences.

    Errors (ValueError, TypeError) name the argument; coverage_penalty needs a model with attention.
    """
    given = {name: value for name, value in locals().items() if name not in ("model", "prompt")}
    job = _job(model, prompt, given)
    for _ in job.run():
        pass
    return job.results()


def stream_generate(model: Decodable, prompt: ArrayLike, **options: Any) -> Iterator[int]:
    """The tokens of `generate(model, prompt, **options)[0]`, each as soon as it is certain.

    Greedy and sampled tokens come at once, those of a beam search when all beams and all finished
    sequences share them. Takes one prompt and returns one sequence; arguments are checked at once.
    """
    return _job(model, prompt, options, one=True).run(streams=True)


def _job(
    model: Decodable, prompt: ArrayLike, given: Mapping[str, Any], one: bool = False
) -> Sampling | Search:
    """The call, checked; `one`: of one prompt and one sequence."""
    vocab_size = check_model(model)
    options = Options.of(given, vocab_size)
    if one and options.num_return_sequences > 1:
        raise ValueError("num_return_sequences must be 1 in stream_generate")
    prompts = as_prompts(prompt, vocab_size)
    if one and len(prompts) > 1:
        raise ValueError("prompt holds several prompts, stream_generate expects one")
    sources = getattr(model, "num_sources", len(prompts))
    if len(prompts) != sources:
        raise ValueError(
            f"prompt holds {len(prompts)} of them, expected one for each of the model's {sources} "
            f"sources"
        )
    kind: type[Sampling | Search] = Search if options.num_beams > 1 else Sampling
    return kind(model, prompts, options)
