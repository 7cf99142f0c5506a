"""Text, labelled texts and tagged sentences from files."""

from __future__ import annotations

import codecs
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from fastrnn._arrays import shown
from fastrnn._errors import ArgumentError, counted
from fastrnn.data._csv import csv_rows

PathLike: TypeAlias = str | os.PathLike[str]

MARKS = (  # byte order marks, and the encodings that write them
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8"),
)


class Labelled(NamedTuple):
    """Texts and their classes, one after the other."""

    texts: list[str]
    labels: list[str]


class Tagged(NamedTuple):
    """Sentences as lists of tokens, and a tag for each token."""

    sentences: list[list[str]]
    tags: list[list[str]]


def read_text(
    paths: PathLike | Iterable[PathLike], *, encoding: str = "utf-8", pattern: str = "*.txt"
) -> str:
    """The text of a file, of the files of a folder that match `pattern`, or of several of these.

    Files of a folder (and of folders in it) come in order of their paths. Line ends become "\\n",
    and a file that follows another starts on a new line. ValueError where the text is not
    `encoding` or there is none; OSError where a file cannot be read.
    """
    given = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    parts: list[str] = []
    for file in _files(map(Path, given), pattern):
        if parts and parts[-1] and not parts[-1].endswith("\n"):
            parts.append("\n")
        parts.append(read_one(file, encoding))
    text = "".join(parts)
    if not text:
        raise ValueError(f"there is no text in {', '.join(map(str, given)) or 'no files'}")
    return text


def _files(paths: Iterable[Path], pattern: str) -> Iterator[Path]:
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        found = sorted(file for file in path.rglob(pattern) if file.is_file())
        if not found:
            raise ValueError(f"{path} has no files {pattern}")
        yield from found


def read_one(path: PathLike, encoding: str = "utf-8") -> str:
    """One file's text, its line ends made "\\n" and a byte order mark left out.

    Errors call the file as str(path) does.
    """
    return decoded(Path(path).read_bytes(), str(path), encoding)


def decoded(raw: bytes, name: str, encoding: str = "utf-8") -> str:
    """Text of a file, or of a stream that `name` calls in errors: as `read_one` gives it.

    ValueError names the line and the byte of what is not `encoding`.
    """
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(_undecodable(raw, name, encoding, error)) from None
    except UnicodeError as error:
        raise ValueError(f"{name} is not {encoding}: {error}") from None
    except LookupError:
        text = f"encoding is {shown(encoding)}, which Python does not know"
        raise ArgumentError("encoding", encoding, "the name of a codec", text) from None
    return _with_newlines(text).removeprefix("\ufeff")


def _with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def _undecodable(raw: bytes, name: str, encoding: str, error: UnicodeDecodeError) -> str:
    """Place and reason of a decoding error, and a guess at the encoding."""
    wrong = ", ".join(f"0x{byte:02x}" for byte in error.object[error.start : error.end])
    place = error.start + len(raw) - len(error.object)  # some codecs cut the byte order mark off
    line = _with_newlines(raw[:place].decode(encoding, "replace")).count("\n") + 1
    marked = next((name for mark, name in MARKS if raw.startswith(mark)), None)
    hint = f"it begins as {marked} does" if marked else "is it in another encoding, as latin-1?"
    return (
        f"{name} is not {encoding}: {wrong} at byte {place} in line {line} ({error.reason}); {hint}"
    )


def read_labelled(
    path: PathLike,
    *,
    text: str | None = None,
    label: str | None = None,
    encoding: str = "utf-8",
) -> Labelled:
    """Texts and labels, one pair per line: label,text in a .csv file, text<TAB>label in others.

    A first line that names both columns, "text" and "label" or what `text` and `label` say, tells
    where they are. Commas inside a text need quotes around it, as CSV has it.
    """
    file = Path(path)
    rows = _rows(file, encoding)
    if not rows:
        raise ValueError(f"{path} has no lines")
    width = max(len(rows[0][1]), 2)
    places = _named_columns(file, rows[0][1], text, label)
    if places:
        rows = rows[1:]
    if not rows:
        raise ValueError(f"{path} has no lines below its header")
    at_text, at_label = places or ((1, 0) if _is_csv(file) else (0, 1))
    for line, row in rows:
        if len(row) != width:
            raise ValueError(
                f"{path} has {counted(len(row), 'column')} in line {line}, expected {width} columns"
            )
        if not row[at_text].strip() or not row[at_label].strip():
            empty = "text" if not row[at_text].strip() else "label"
            raise ValueError(f"{path} has an empty {empty} in line {line}")
    return Labelled([row[at_text] for _, row in rows], [row[at_label].strip() for _, row in rows])


def _named_columns(
    path: Path, first: list[str], text: str | None, label: str | None
) -> tuple[int, int] | None:
    """Columns of text and label if the first line names both; else None."""
    names = [name.strip() for name in first]
    wanted = "text" if text is None else text, "label" if label is None else label
    if wanted[0] == wanted[1]:
        raise ValueError(f"text and label are both {shown(wanted[0])}, expected two columns")
    missing = [name for name in wanted if name not in names]
    if missing and (text is not None or label is not None):
        raise ValueError(f"{path} has no column {missing[0]!r}, its first line is {shown(names)}")
    if missing:
        return None
    for name in wanted:
        if names.count(name) > 1:
            raise ValueError(f"{path} has {names.count(name)} columns {shown(name)}, expected one")
    return names.index(wanted[0]), names.index(wanted[1])


def _is_csv(path: Path) -> bool:
    return path.suffix.lower() == ".csv"


def _rows(path: Path, encoding: str) -> list[tuple[int, list[str]]]:
    """The number and the cells of each line that is not blank."""
    lines = read_one(path, encoding).split("\n")
    if _is_csv(path):
        return [(i, row) for i, row in csv_rows(lines, path) if row]
    return [(i, line.split("\t")) for i, line in enumerate(lines, 1) if line.strip(" ")]


def read_classes(folder: PathLike, *, encoding: str = "utf-8", pattern: str = "*.txt") -> Labelled:
    """A folder that holds a file per class, or a folder per class.

    names/English.txt, one item per line: the class is the file's name without its ending.
    reviews/positive/17.txt, one item per file: the class is the folder's name.
    """
    root = Path(folder)
    folders = sorted(path for path in root.iterdir() if path.is_dir() and path.name[0] != ".")
    files = sorted(path for path in root.glob(pattern) if path.is_file())
    if folders and files:
        raise ValueError(f"{folder} has files and folders, expected a file or a folder per class")
    found = Labelled([], [])
    for path in folders or files:
        items = _items(path, encoding, pattern)
        if not items:
            raise ValueError(f"{path} has no items of its class")
        found.texts.extend(items)
        found.labels.extend([_as_text(path.name if folders else path.stem)] * len(items))
    if not found.texts:
        raise ValueError(f"{folder} has no files {pattern} and no folders")
    return found


def _as_text(name: str) -> str:
    """The name of a file as UTF-8, whatever the system's locale makes of it."""
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def _items(path: Path, encoding: str, pattern: str) -> list[str]:
    if path.is_dir():
        files = sorted(file for file in path.rglob(pattern) if file.is_file())
        texts = [read_one(file, encoding).strip() for file in files]
    else:
        texts = [line.strip() for line in read_one(path, encoding).split("\n")]
    return [text for text in texts if text]


def read_tagged(path: PathLike, *, encoding: str = "utf-8") -> Tagged:
    """Tagged sentences as in CoNLL files: a token and its tag per line, a blank line between.

    Columns are separated by tabs, or by spaces where a line has no tab; the first is the token and
    the last is the tag.
    """
    found: Tagged = Tagged([], [])
    tokens: list[str] = []
    tags: list[str] = []
    for number, line in enumerate([*read_one(Path(path), encoding).split("\n"), ""], 1):
        if line.strip():
            cells = line.split("\t") if "\t" in line else line.strip(" ").split(" ")
            if len(cells) < 2 or not cells[0].strip() or not cells[-1].strip():
                raise ValueError(
                    f"{path} has {shown(line)} in line {number}, expected token<TAB>tag"
                )
            tokens.append(cells[0].strip())
            tags.append(cells[-1].strip())
        elif tokens:
            found.sentences.append(tokens)
            found.tags.append(tags)
            tokens, tags = [], []
    if not found.sentences:
        raise ValueError(f"{path} has no tagged tokens")
    return found


_ASCII = str.maketrans("\u2018\u2019\u201c\u201d\u2013\u2014", "''\"\"--")  # quotes and dashes


def standard_library_text() -> str:
    """The English prose of Python's own language reference, about 240,000 characters.

    Distinct paragraphs of the standard library's pydoc_data.topics in printable ASCII, without
    code, grammar and headings, a blank line between them. Its wording differs a little between
    versions of Python.
    """
    from pydoc_data.topics import topics

    found: dict[str, None] = {}  # a dict keeps order; topics repeat whole sections of each other
    for name in sorted(topics):
        for block in re.split(r"\n\s*\n|\n\s*(?=\* |\d+\. )", topics[name]):
            paragraph = _prose(block)
            if paragraph:
                found[paragraph] = None
    return "\n\n".join(found)


def _prose(block: str) -> str | None:
    """A block without its markup, if it is a sentence made of words."""
    text = re.sub(r"^(\*|\d+\.) ", "", " ".join(block.split()))  # list markers
    text = re.sub(r"\*+([^*\s][^*]*)\*+", r"\1", text)  # *emphasis*
    text = text.translate(_ASCII).replace('""', '"')
    letters = sum(c.isalpha() or c == " " for c in text)
    is_sentence = re.fullmatch(r'["A-Z].{40,}[.:]', text) is not None
    return text if is_sentence and text.isascii() and letters > 0.86 * len(text) else None
