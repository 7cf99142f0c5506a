"""Files: text, labels, tags, tables."""

from __future__ import annotations

import numpy as np
import pytest

from fastrnn.data import (
    read_classes,
    read_csv,
    read_labelled,
    read_numpy,
    read_tagged,
    read_text,
    standard_library_text,
)


@pytest.fixture
def write(tmp_path):
    def write_one(name: str, content: str | bytes):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_one


def test_text_comes_from_a_file_a_folder_or_several(write, tmp_path):
    b, a = write("b.txt", "second\n"), write("a.txt", "first")
    write("sub/c.txt", "third")
    write("notes.md", "no text")
    assert read_text(a) == "first"
    assert read_text(tmp_path) == "first\nsecond\nthird"
    assert read_text([b, str(a)]) == "second\nfirst"
    assert read_text(tmp_path, pattern="*.md") == "no text"


def test_line_ends_become_newlines_and_a_byte_order_mark_goes(write):
    assert read_text(write("a.txt", b"\xef\xbb\xbfone\r\ntwo\rthree\n")) == "one\ntwo\nthree\n"


def test_text_of_another_encoding_is_an_error_that_says_where(write):
    path = write("a.txt", "caf\xe9 ".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.txt is not utf-8: 0xe9 at byte 3 .*latin-1"):
        read_text(path)
    assert read_text(path, encoding="latin-1") == "caf\xe9 "
    with pytest.raises(ValueError, match="encoding is 'utf-9'"):
        read_text(path, encoding="utf-9")


def test_no_text_is_an_error(write, tmp_path):
    with pytest.raises(ValueError, match="there is no text in"):
        read_text(write("empty.txt", ""))
    with pytest.raises(ValueError, match=r"has no files \*\.rst"):
        read_text(tmp_path, pattern="*.rst")
    with pytest.raises(ValueError, match="there is no text in no files"):
        read_text([])
    with pytest.raises(FileNotFoundError):
        read_text(tmp_path / "nowhere.txt")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'good,"well, well"\nbad,oh dear\n'),
        ("a.csv", 'text,label\n"well, well",good\noh dear,bad\n'),
        ("a.csv", 'id,label,text\n1,good,"well, well"\n\n2,bad,oh dear'),
        ("a.tsv", "well, well\tgood\noh dear\tbad\n"),
        ("a.txt", "label\ttext\ngood\twell, well\r\n\r\nbad\toh dear\n"),
    ],
)
def test_labelled_lines_are_read_with_and_without_a_header(write, name, content):
    found = read_labelled(write(name, content))
    assert found.texts == ["well, well", "oh dear"]
    assert found.labels == ["good", "bad"]


def test_the_columns_of_labelled_lines_can_be_named(write):
    path = write("a.csv", "review,stars\nfine,5\n")
    assert read_labelled(path, text="review", label="stars") == (["fine"], ["5"])
    with pytest.raises(ValueError, match=r"has no column 'rating', its first line is"):
        read_labelled(path, text="review", label="rating")
    with pytest.raises(ValueError, match="text and label are both 'stars', expected two columns"):
        read_labelled(path, text="stars", label="stars")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no lines"),
        ("a,b\nc\n", "has 1 column in line 2, expected 2 columns"),
        ("a\n", "has 1 column in line 1, expected 2 columns"),
        ("a,b\n\n,d\n", "has an empty label in line 3"),
        ("a,b\nc,\n", "has an empty text in line 2"),
        ("label,text\n", "has no lines below its header"),
        ("label,text,text\nx,y,z\n", "has 2 columns 'text', expected one"),
    ],
)
def test_labelled_lines_that_are_wrong_are_named(write, content, message):
    with pytest.raises(ValueError, match=message):
        read_labelled(write("a.csv", content))


def test_a_file_per_class_holds_one_item_per_line(write, tmp_path):
    write("names/English.txt", "Abbas\nAbbey\n\n")
    write("names/Czech.txt", "Adam \n")
    found = read_classes(tmp_path / "names")
    assert found == (["Adam", "Abbas", "Abbey"], ["Czech", "English", "English"])


def test_a_folder_per_class_holds_one_item_per_file(write, tmp_path):
    write("reviews/good/1.txt", "fine\nindeed\n")
    write("reviews/bad/1.txt", "oh dear")
    write("reviews/bad/2.txt", "no")
    found = read_classes(tmp_path / "reviews")
    assert found == (["oh dear", "no", "fine\nindeed"], ["bad", "bad", "good"])


def test_folders_that_do_not_say_what_a_class_is_are_refused(write, tmp_path):
    write("mixed/a.txt", "x")
    write("mixed/b/c.txt", "x")
    with pytest.raises(ValueError, match="has files and folders"):
        read_classes(tmp_path / "mixed")
    write("blank/a.txt", "\n")
    with pytest.raises(ValueError, match=r"a\.txt has no items"):
        read_classes(tmp_path / "blank")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match=r"has no files \*\.txt and no folders"):
        read_classes(tmp_path / "nothing")


def test_tagged_sentences_are_separated_by_blank_lines(write):
    path = write("a.conll", "\nThe\tDET\ndog\tNOUN\n\n\nruns VB x VERB")
    assert read_tagged(path) == ([["The", "dog"], ["runs"]], [["DET", "NOUN"], ["VERB"]])


def test_lines_without_a_tag_are_named(write):
    with pytest.raises(ValueError, match="has 'dog' in line 2, expected token<TAB>tag"):
        read_tagged(write("a.conll", "The\tDET\ndog\n"))
    with pytest.raises(ValueError, match="has no tagged tokens"):
        read_tagged(write("b.conll", "\n\n"))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_has_names_or_none_and_any_usual_separator(write, separator):
    rows = [["t", "load"], ["1", "2.5"], ["-3e2", " 4"]]
    text = "\n".join(separator.join(row) for row in rows)
    table = read_csv(write("a.csv", text))
    assert table.columns == ("t", "load")
    assert table.values.dtype == np.float64
    assert table.values.tolist() == [[1, 2.5], [-300, 4]]
    bare = read_csv(write("b.csv", text.split("\n", 1)[1] + "\n\n"))
    assert bare.columns == ("0", "1")
    assert np.array_equal(bare.values, table.values)


def test_columns_of_a_table_are_chosen_by_name_or_position(write):
    path = write("a.csv", 'date,"oil, hot",load\n2016-07-01,1,2\n"a, b",3,4\n')
    assert read_csv(path, ["load", "oil, hot"]).values.tolist() == [[2, 1], [4, 3]]
    table = read_csv(path, [1])
    assert table.columns == ("oil, hot",)
    assert table.values.tolist() == [[1], [3]]
    with pytest.raises(ValueError, match="has '2016-07-01' in line 2, column 'date'"):
        read_csv(path)
    with pytest.raises(ValueError, match="has no column 'gas', it has date, oil, hot, load"):
        read_csv(path, ["gas"])
    with pytest.raises(ValueError, match=r"columns holds 3, .* has 3 columns"):
        read_csv(path, [3])
    with pytest.raises(ValueError, match="columns is empty"):
        read_csv(path, [])
    with pytest.raises(TypeError, match="columns is a str"):
        read_csv(path, "load")


def test_a_first_line_with_text_like_the_next_line_is_no_header(write):
    table = read_csv(write("a.csv", "2016-07-01,1,2\n2016-07-02,3,4\n"), [1, 2])
    assert table.columns == ("1", "2")
    assert table.values.tolist() == [[1, 2], [3, 4]]
    assert read_csv(write("b.csv", "t,2019,2020\n1,2,3\n")).columns == ("t", "2019", "2020")


def test_blank_lines_above_a_table_are_skipped_and_counted(write):
    assert read_csv(write("a.csv", "\n\na,b\n1,2\n")).values.tolist() == [[1, 2]]
    with pytest.raises(ValueError, match="has 'x' in line 5, column 'b'"):
        read_csv(write("b.csv", "\n\na,b\n1,2\n3,x\n"))


def test_only_newlines_end_a_line(write):
    assert read_labelled(write("a.tsv", "one\u2028two\tgood\n")).texts == ["one\u2028two"]
    assert read_labelled(write("a.csv", 'good,"one\ntwo"\n')).texts == ["one\ntwo"]


def test_a_quote_that_never_ends_is_an_error_with_its_line(write):
    with pytest.raises(ValueError, match=r"a\.csv has a quote in line 2 that never ends"):
        read_labelled(write("a.csv", 'good,fine\nbad,"' + "x" * 200_000))


def test_the_header_can_be_numbers_when_told(write):
    path = write("a.csv", "2019,2020\n1,2\n")
    assert len(read_csv(path).values) == 2
    assert read_csv(path, header=True).columns == ("2019", "2020")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b\n\n", "has no numbers below its header"),
        ("a,b\n1,2\n\n1\n", "has 1 column in line 4, expected 2"),
        ("1,2\n1,2,3\n", "has 3 columns in line 2, expected 2"),
        ("a,b\n1,2\n3,x\n", "has 'x' in line 3, column 'b', expected a number"),
        ("a,b\n1,\n", "has '' in line 2, column 'b', expected a number"),
        ("a,b\n1,1_0\n", "has '1_0' in line 2, column 'b', expected a number"),
    ],
)
def test_tables_that_are_wrong_are_named_with_the_line(write, content, message):
    with pytest.raises(ValueError, match=message):
        read_csv(write("a.csv", content))


def test_a_table_of_numbers_survives_being_written(write, tmp_path, rng):
    x = rng.standard_normal((50, 4)).astype(np.float32)
    np.savetxt(tmp_path / "x.csv", x, "%.9g", ",", header="a,b,c,d", comments="")
    table = read_csv(tmp_path / "x.csv")
    assert table.columns == ("a", "b", "c", "d")
    assert np.array_equal(table.values.astype(np.float32), x)


def test_numpy_files_are_read_and_one_array_stays_on_disk(tmp_path):
    x = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "x.npy", x)
    found = read_numpy(tmp_path / "x.npy")
    assert np.array_equal(found, x)
    assert not found.flags.owndata
    np.savez(tmp_path / "one.npz", x=x)
    np.savez(tmp_path / "two.npz", x=x, y=x + 1)
    assert np.array_equal(read_numpy(tmp_path / "one.npz"), x)
    assert np.array_equal(read_numpy(tmp_path / "two.npz", "y"), x + 1)
    with pytest.raises(ValueError, match="holds x, y: 2, name one of them"):
        read_numpy(tmp_path / "two.npz")
    with pytest.raises(ValueError, match="holds x: none called 'z'"):
        read_numpy(tmp_path / "one.npz", "z")


def test_numpy_files_that_are_none_or_run_code_are_refused(write, tmp_path):
    for name, content in [("a.npy", b"no array"), ("b.npy", b""), ("c.npz", b"PK\x03\x04 no")]:
        with pytest.raises(ValueError, match=r"is no \.npy or \.npz file"):
            read_numpy(write(name, content))
    np.save(tmp_path / "o.npy", np.array([{}], object))
    with pytest.raises(ValueError, match=r"is no \.npy or \.npz file of plain arrays"):
        read_numpy(tmp_path / "o.npy")


def test_the_standard_library_gives_english_paragraphs():
    text = standard_library_text()
    assert len(text) > 100_000
    assert text.isascii()
    paragraphs = text.split("\n\n")
    assert len(paragraphs) == len(set(paragraphs))
    assert not any("\n" in paragraph for paragraph in paragraphs)
    assert text.count(" the ") > 1000


@pytest.mark.parametrize("space", ["\xa0", "\u3000", "\u2028", "\x0b", "\x85"])
def test_only_spaces_and_tabs_stand_between_a_token_and_its_tag(write, space):
    assert read_tagged(write("a.txt", f"ice{space}cream NOUN\n")).sentences == [
        [f"ice{space}cream"]
    ]
    with pytest.raises(ValueError, match="in line 1, expected token<TAB>tag"):
        read_tagged(write("b.txt", f"dog{space}NOUN\n"))


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        (b"one\r\ntwo\rthr\xe9e\n", "utf-8", r"0xe9 at byte 12 in line 3 "),
        (b"\xef\xbb\xbfone\n\xff", "utf-8-sig", r"0xff at byte 7 in line 2 "),
        ("one\n".encode("utf-16"), "utf-8", r"0xff at byte 0 in line 1 .*begins as utf-16 does"),
        ("one\n".encode("utf-32"), "utf-8", r"0xff at byte 0 in line 1 .*begins as utf-32 does"),
        ("one\ntwo".encode("utf-16") + b"x", "utf-16", r"0x78 at byte 16 in line 2 "),
        (b"one\ntwo\xff", "ascii", r"0xff at byte 7 in line 2 "),
    ],
)
def test_bytes_that_are_no_text_are_named_with_their_line(write, content, encoding, message):
    with pytest.raises(ValueError, match=rf"a\.txt is not {encoding}: {message}"):
        read_text(write("a.txt", content), encoding=encoding)


def test_text_of_two_bytes_a_character_is_read_when_told(write):
    path = write("a.txt", "caf\xe9\r\n".encode("utf-16"))
    assert read_text(path, encoding="utf-16") == "caf\xe9\n"
