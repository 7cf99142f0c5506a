"""The options of a call, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fastrnn._arrays import as_choice, as_flag, as_int, as_int64, as_number
from fastrnn._errors import ArgumentError, counted, with_article
from fastrnn.decode._checks import DecodingError, as_id, as_ids, as_lists, at_least, within
from fastrnn.decode.automaton import Automaton

_GREEDY = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}


@dataclass(slots=True, kw_only=True)
class Options:
    """See `generate`. After `check`, eos_token_id, stop and the like are tuples."""

    max_new_tokens: int
    min_new_tokens: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    typical_p: float = 1.0
    num_beams: int = 1
    num_beam_groups: int = 1
    diversity_penalty: float = 0.0
    num_return_sequences: int = 1
    length_penalty: float = 1.0
    length_penalty_form: str = "power"
    early_stopping: bool | str = False
    patience: float = 1.0
    repetition_penalty: float = 1.0
    no_repeat_ngram_size: int = 0
    eos_token_id: Any = None
    bad_words_ids: Any = None
    forced_tokens: Any = None
    forced_bos_token_id: Any = None
    forced_eos_token_id: Any = None
    suppress_tokens: Any = None
    begin_suppress_tokens: Any = None
    logits_processor: Any = None
    constraint: Automaton | None = None
    stop: Any = None
    seed: int | None = None
    coverage_penalty: float = 0.0

    @classmethod
    def of(cls, given: Mapping[str, Any], vocab_size: int) -> Options:
        """Checked options; TypeError for a name that is none."""
        unknown = set(given) - {field.name for field in fields(cls)}
        if unknown:
            raise TypeError(f"{min(unknown)} is not an option of generate")
        if "max_new_tokens" not in given:
            raise TypeError("max_new_tokens is missing, expected how many tokens to generate")
        options = cls(**given)
        _check_sizes(options)
        _check_sampling(options)
        _check_beams(options, vocab_size)
        _check_tokens(options, vocab_size)
        _check_forced(options, vocab_size)
        _check_objects(options)
        return options


def as_prompts(prompt: Any, vocab_size: int) -> list[list[int]]:
    """One prompt, or several of any lengths, as lists of ids."""
    nested = isinstance(prompt, (list, tuple)) and any(_is_sequence(part) for part in prompt)
    if not nested and getattr(prompt, "ndim", 1) != 2:
        return [_one_prompt(prompt, "prompt", vocab_size)]
    prompts = [_one_prompt(p, f"prompt[{i}]", vocab_size) for i, p in enumerate(prompt)]
    if not prompts:
        raise ValueError("prompt is empty, expected at least one token")
    return prompts


def _is_sequence(part: Any) -> bool:
    return isinstance(part, (list, tuple)) or getattr(part, "ndim", 0) > 0


def _one_prompt(prompt: Any, name: str, vocab_size: int) -> list[int]:
    if isinstance(prompt, str):
        raise TypeError(f"{name} is a str, expected token ids")
    ids = as_int64(prompt, name)
    if ids.ndim != 1:
        raise ValueError(f"{name} has shape {ids.shape}, expected one sequence of ids")
    if not ids.size:
        raise ValueError(f"{name} is empty, expected at least one token")
    for outside in ids[(ids < 0) | (ids >= vocab_size)].tolist():
        as_id(outside, name, vocab_size)  # says which
    tokens: list[int] = ids.tolist()
    return tokens


def _check_sizes(o: Options) -> None:
    o.max_new_tokens = at_least(1, o.max_new_tokens, "max_new_tokens")
    o.min_new_tokens = at_least(0, o.min_new_tokens, "min_new_tokens")
    if o.min_new_tokens > o.max_new_tokens:
        text = f"min_new_tokens is {o.min_new_tokens}, more than max_new_tokens {o.max_new_tokens}"
        raise ArgumentError("min_new_tokens", o.min_new_tokens, f"at most {o.max_new_tokens}", text)
    o.num_return_sequences = at_least(1, o.num_return_sequences, "num_return_sequences")
    o.no_repeat_ngram_size = at_least(0, o.no_repeat_ngram_size, "no_repeat_ngram_size")
    o.repetition_penalty = within(1e-6, 1e6, o.repetition_penalty, "repetition_penalty")
    # So that the length to this power is a float64.
    limit = 700 / max(1.0, math.log(o.max_new_tokens))
    o.length_penalty = within(-limit, limit, o.length_penalty, "length_penalty")
    o.length_penalty_form = as_choice(
        o.length_penalty_form, "length_penalty_form", ("power", "gnmt")
    )
    if o.seed is not None:
        o.seed = as_int(o.seed, "seed", 64)
        if o.seed < 0:
            raise ArgumentError("seed", o.seed, "an int from 0 to 2**64 - 1")
    o.coverage_penalty = within(0, 1e6, o.coverage_penalty, "coverage_penalty")
    if o.coverage_penalty and o.num_beams == 1:
        text = f"coverage_penalty is {o.coverage_penalty}, which needs num_beams above 1"
        raise ArgumentError("coverage_penalty", o.coverage_penalty, "0 without beams", text)


def _check_sampling(o: Options) -> None:
    o.do_sample = as_flag(o.do_sample, "do_sample")
    o.temperature = as_number(o.temperature, "temperature")
    if not o.temperature >= 0:
        raise ArgumentError("temperature", o.temperature, "a number of 0 or more")
    o.top_k = 0 if o.top_k is None else at_least(0, o.top_k, "top_k")
    o.top_p, o.min_p = within(0, 1, o.top_p, "top_p"), within(0, 1, o.min_p, "min_p")
    o.typical_p = within(0, 1, o.typical_p, "typical_p")
    if o.do_sample:
        return
    for name, neutral in {**_GREEDY, "temperature": 1.0 if o.temperature else 0.0}.items():
        if getattr(o, name) != neutral and not (name == "top_k" and o.num_beams > 1):
            text = f"{name} is {getattr(o, name)}, but do_sample is False: it would have no effect"
            raise ArgumentError(name, getattr(o, name), f"{neutral} without draws", text)


def _check_beams(o: Options, vocab_size: int) -> None:
    o.num_beams = at_least(1, o.num_beams, "num_beams")
    o.num_beam_groups = at_least(1, o.num_beam_groups, "num_beam_groups")
    if o.num_beams > vocab_size:
        text = f"num_beams is {o.num_beams}, but the vocabulary has {counted(vocab_size, 'token')}"
        raise ArgumentError("num_beams", o.num_beams, f"at most {vocab_size}", text)
    if o.num_beams > 1 and o.do_sample:
        text = f"do_sample is True and num_beams is {o.num_beams}: expected one of them"
        raise ArgumentError("do_sample", True, "False with beams", text)
    if o.num_beams % o.num_beam_groups:
        groups, beams = o.num_beam_groups, o.num_beams
        text = f"num_beam_groups is {groups}, which does not divide the {beams} beams"
        raise ArgumentError("num_beam_groups", groups, f"a divisor of {beams}", text)
    o.diversity_penalty = within(0, 1e6, o.diversity_penalty, "diversity_penalty")
    if (o.diversity_penalty > 0) != (o.num_beam_groups > 1):
        raise ArgumentError(
            "diversity_penalty",
            o.diversity_penalty,
            "above 0 with groups, 0 without",
            f"diversity_penalty is {o.diversity_penalty} with num_beam_groups "
            f"{o.num_beam_groups}: groups need a penalty above 0, and a penalty needs groups",
        )
    early = o.early_stopping
    if not isinstance(early, bool) and not (isinstance(early, str) and early == "never"):
        raise ArgumentError("early_stopping", early, "True, False or 'never'")
    o.patience = as_number(o.patience, "patience")
    if not 0 < o.patience < 1e6:
        raise ArgumentError("patience", o.patience, "a number above 0")
    most = 1 if o.num_beams == 1 else kept_of(o) * o.num_beam_groups
    if not o.do_sample and o.num_return_sequences > most:
        what = "a greedy search" if o.num_beams == 1 else f"{o.num_beams} beams"
        text = f"num_return_sequences is {o.num_return_sequences}, but {what} gives at most {most}"
        raise ArgumentError("num_return_sequences", o.num_return_sequences, f"at most {most}", text)


def kept_of(o: Options) -> int:
    """The number of finished sequences that a group of beams collects."""
    return max(1, int(o.num_beams // o.num_beam_groups * o.patience + 0.5))


def _check_tokens(o: Options, vocab_size: int) -> None:
    eos = o.eos_token_id
    eos = () if eos is None else eos
    eos = eos if getattr(eos, "ndim", isinstance(eos, Iterable)) else (eos,)
    o.eos_token_id = as_ids(eos, "eos_token_id", vocab_size)
    o.suppress_tokens = as_ids(o.suppress_tokens, "suppress_tokens", vocab_size)
    o.begin_suppress_tokens = as_ids(o.begin_suppress_tokens, "begin_suppress_tokens", vocab_size)
    o.bad_words_ids = as_lists(o.bad_words_ids, "bad_words_ids", vocab_size)
    o.stop = as_lists(o.stop, "stop", vocab_size)
    singles = {word[0] for word in o.bad_words_ids if len(word) == 1}
    if len(singles | set(o.suppress_tokens)) == vocab_size:
        raise DecodingError(
            "{suppress_tokens} and {bad_words_ids} leave no token of the vocabulary"
        )


def _check_forced(o: Options, vocab_size: int) -> None:
    """All forced tokens become one mapping from positions of new tokens to ids."""
    given = o.forced_tokens
    if given is not None and not isinstance(given, Mapping):
        given = dict(enumerate(as_ids(given, "forced_tokens", vocab_size)))
    ends = {}
    if o.forced_bos_token_id is not None:
        ends[0] = "forced_bos_token_id"
    if o.forced_eos_token_id is not None:
        ends[o.max_new_tokens - 1] = "forced_eos_token_id"
    forced = {}
    for position, token in (given or {}).items():
        if not 0 <= as_int(position, "forced_tokens") < o.max_new_tokens:
            raise ValueError(
                f"forced_tokens holds position {position}, max_new_tokens is {o.max_new_tokens}"
            )
        forced[int(position)] = as_id(token, "forced_tokens", vocab_size)
    for position, name in ends.items():
        token = as_id(getattr(o, name), name, vocab_size)
        if forced.setdefault(position, token) != token:
            raise ValueError(f"forced_tokens and {name} differ at position {position}")
    for position, token in forced.items():
        if token in o.suppress_tokens:
            raise ValueError(f"forced_tokens holds {token}, which suppress_tokens forbids")
        if token in o.eos_token_id and position < o.min_new_tokens:
            raise ValueError(
                f"forced_tokens ends at position {position}, min_new_tokens is {o.min_new_tokens}"
            )
    o.forced_tokens = forced


def _check_objects(o: Options) -> None:
    hooks = o.logits_processor
    hooks = () if hooks is None else hooks if isinstance(hooks, Sequence) else (hooks,)
    for hook in hooks:
        if not callable(hook):
            kind = with_article(type(hook).__name__)
            raise TypeError(f"logits_processor is {kind}, expected a function(tokens, logits)")
    o.logits_processor = tuple(hooks)
    if o.constraint is not None and not isinstance(o.constraint, Automaton):
        kind = with_article(type(o.constraint).__name__)
        raise TypeError(f"constraint is {kind}, expected a fastrnn.decode.Automaton")
