"""Make up names that sound like a language's, letter by letter.

Give a folder with one file per language, names/Italian.txt, one name per line; without one, a few
given names that stand below are used. A GRU reads the language as if it were the first letter of
every name, so that one model writes the names of all of them; nothing but that token tells them
apart. The built-in lists take a few seconds, 18,000 names of 18 languages about half a minute.

    python examples/names_generated.py names/ --count 8

Prints names of each language, drawn with a seed, those that are in the lists with a star.
"""

from argparse import (
    ArgumentDefaultsHelpFormatter,
    ArgumentParser,
    Namespace,
    RawDescriptionHelpFormatter,
)
from pathlib import Path

import numpy as np

from fastrnn import generate
from fastrnn.data import Buckets, ShiftedSequences, Vocabulary, encode_labels, read_classes
from fastrnn.models import LanguageModel
from fastrnn.optim import Adam
from fastrnn.optim.schedules import Cosine
from fastrnn.train import Trainer

NAMES = {
    "Finnish": "Aino Antti Eero Eino Elina Hannele Heikki Ilmari Jaakko Jukka Juhani Kaarina "
    "Kalevi Kirsi Leena Marjatta Matti Mikko Olavi Outi Päivi Pekka Raimo Risto Sirkka Tapio "
    "Timo Tuomas Tuulikki Veikko",
    "Italian": "Alessandro Antonella Beatrice Carlo Chiara Domenico Elisabetta Fabrizio Federica "
    "Francesco Giovanni Giulia Ilaria Leonardo Lorenzo Luciano Marcello Martina Massimo Matteo "
    "Ornella Paolo Raffaele Riccardo Roberta Simona Stefano Tommaso Valentina Vincenzo",
    "Japanese": "Akiko Akira Ayumi Chiyo Daisuke Emiko Fumiko Haruki Hideo Hiroshi Isamu Kaori "
    "Katsuo Kazuko Keiko Kenji Makoto Masako Michiko Minoru Naoki Noriko Satoshi Shigeru Sumiko "
    "Takashi Tomoko Toshio Yasuko Yukio",
    "Welsh": "Aeron Aled Angharad Arwel Bethan Bronwen Bryn Cerys Dafydd Delyth Dilwyn Eirlys "
    "Eluned Emlyn Ffion Geraint Gethin Glenys Gwendolen Gwilym Hywel Idris Llinos Llywelyn "
    "Meirion Myfanwy Rhiannon Rhodri Tegwen Tudur",
}


def read_names(folder: Path | None) -> tuple[list[str], list[str]]:
    """Names and their languages, each pair once: lists repeat themselves."""
    if folder is not None:
        pairs = list(zip(*read_classes(folder), strict=True))
    else:
        pairs = [(name, language) for language, row in NAMES.items() for name in row.split()]
    names, languages = zip(*dict.fromkeys(pairs), strict=True)
    return list(names), list(languages)


def make_examples(
    names: list[str], languages: list[str], vocabulary: Vocabulary, classes: list[str]
) -> ShiftedSequences:
    """BOS, language, letters -> language, letters, EOS; languages are ids behind all letters."""
    first = len(vocabulary) + encode_labels(languages, classes)
    rows = [
        np.concatenate(([language], vocabulary.encode(name)))
        for language, name in zip(first, names, strict=True)
    ]
    return ShiftedSequences(rows, bos=vocabulary.bos, eos=vocabulary.eos, pad=vocabulary.pad)


def write(
    model: LanguageModel, vocabulary: Vocabulary, language: int, temperature: float, seed: int
) -> list[str]:
    """Ten different ways to go on after the language's token."""
    token = len(vocabulary) + language
    found = generate(
        model,
        [vocabulary.bos, token],
        max_new_tokens=20,
        min_new_tokens=3,
        do_sample=True,
        temperature=temperature,
        num_return_sequences=10,
        eos_token_id=vocabulary.eos,
        suppress_tokens=[vocabulary.pad, vocabulary.bos, *range(len(vocabulary), model.vocab_size)],
        seed=seed,
    )
    return [vocabulary.decode(one.tokens) for one in found]


def different(
    model: LanguageModel, vocabulary: Vocabulary, language: int, options: Namespace
) -> list[str]:
    """So many different names, from as many seeds as they take, but no more than there are."""
    names: dict[str, None] = {}
    for seed in range(options.seed, options.seed + options.count):
        names |= dict.fromkeys(write(model, vocabulary, language, options.temperature, seed))
        if len(names) >= options.count:
            break
    return list(names)[: options.count]


class Help(ArgumentDefaultsHelpFormatter, RawDescriptionHelpFormatter):
    """The text above as it stands, and defaults."""


def main() -> None:
    parser = ArgumentParser(description=__doc__, formatter_class=Help)
    add = parser.add_argument
    add("folder", nargs="?", type=Path, help="one file per language, one name per line")
    add("--count", type=int, default=8, help="names to write of each language")
    add("--temperature", type=float, default=0.8, help="of the draws, lower is more usual")
    add("--steps", type=int, help="steps of the training (1500 for a folder, 200 for the lists)")
    add("--hidden", type=int, default=128, help="units of the layer")
    add("--batch", type=int, default=32, help="names in a batch")
    add("--lr", type=float, default=3e-3, help="first learning rate")
    add("--seed", type=int, default=0, help="of weights, order and draws")
    options = parser.parse_args()

    # More would learn the few names by heart.
    steps = options.steps or (200 if options.folder is None else 1500)
    names, languages = read_names(options.folder)
    classes = sorted(set(languages))
    vocabulary = Vocabulary.build(names, specials=("pad", "bos", "eos"))
    source = Buckets(
        make_examples(names, languages, vocabulary, classes), options.batch, seed=options.seed
    )
    model = LanguageModel(
        len(vocabulary) + len(classes), 32, options.hidden,
        cell="gru", dropout=0.2, ignore_index=-100,
    )  # fmt: skip
    model.reset_parameters(options.seed)
    model.seed(options.seed)
    schedule = Cosine(options.lr, steps, low=options.lr / 100)
    trainer = Trainer(model, Adam(model), clip_norm=1.0, schedule=schedule)
    result = trainer.fit(source, epochs=steps, max_steps=steps)
    print(f"{len(names)} names of {len(classes)} languages")
    print(f"{result.steps} steps in {result.seconds:.1f} s; * is a name of the lists")
    for i, language in enumerate(classes):
        known = {name for name, own in zip(names, languages, strict=True) if own == language}
        found = different(model, vocabulary, i, options)
        print(f"{language:<12}{' '.join(n + '*' * (n in known) for n in found)}")


if __name__ == "__main__":
    main()
