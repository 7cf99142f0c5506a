"""Tables of numbers from strangers: gaps, commas, quotes and limits, wherever they stand."""

from __future__ import annotations

import csv
import io
import itertools
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastrnn.cli import main
from fastrnn.data import read_csv, read_labelled
from fastrnn.data._csv import csv_rows

GAPS = ["", "NA", "NaN", "null", "-", "?", "n/a", "None", ".", "#N/A", "  ", "\u2013"]
WRITTEN = ["1,5", "1,234.5", "1.234,5", "1 234", "1'234", "1\u00a0234", "1_000", "\u22125", "5 %"]
ROWS = 7


@pytest.fixture
def write(tmp_path):
    def write_one(content: str | bytes):
        path = tmp_path / "a.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_one


def table(cell: str, row: int, header: bool = True, days: bool = True) -> tuple[str, int]:
    """A table of semicolons with one strange cell in its last column, and the cell's line."""
    rows = [["day", "load", "heat"]] if header else []
    rows += [[f"2016-07-0{i + 1}", f"{i}.5", f"{i}e1"] for i in range(ROWS)]
    rows[row + header][-1] = cell
    return "\n".join(";".join(r[not days :]) for r in rows) + "\n", row + header + 1


@pytest.mark.parametrize("rows_at_a_time", [4096, 2])
@pytest.mark.parametrize("cell", [*GAPS, *WRITTEN, "inf", "1e400", "9007199254740993", "off"])
def test_one_cell_that_is_no_number_is_named_and_drops_no_column(
    write, cell, rows_at_a_time, monkeypatch
):
    monkeypatch.setattr("fastrnn.data.tables._ROWS", rows_at_a_time)
    places = itertools.product((True, False), (True, False), (0, 1, ROWS // 2, ROWS - 1))
    for days, header, row in places:
        if (cell, days, header, row) == ("off", False, False, 0):
            continue  # that may be a row of names
        text, line = table(cell, row, header, days)
        name = "heat" if header else str(1 + days)
        first = cell == "off" and row == 0
        told = "has .* in line" if first else f"in line {line}, column '{name}'"
        with pytest.raises(ValueError, match=told) as caught:
            read_csv(write(text), skip_text=True)
        if cell != "off":
            assert f"has {cell.lstrip(' ')!r} in line {line}" in str(caught.value)


@pytest.mark.parametrize("cell", [*GAPS, *WRITTEN])
def test_the_only_row_can_be_wrong_too(write, cell):
    with pytest.raises(ValueError, match="in line 2, column 'b', expected a number"):
        read_csv(write(f"a;b\n1;{cell}\n"), skip_text=True)
    with pytest.raises(ValueError, match="in line 1, column '1', expected a number"):
        read_csv(write(f"1;{cell};2\n"), skip_text=True)


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("NA", "a number and no gap"),
        ("1,5", "a number with a point before its decimals and no other signs"),
        ("-Infinity", "a number that float64 can hold"),
        ("-9007199254740993", "a number that float64 can hold exactly"),
        ("wet", "a number"),
    ],
)
def test_an_error_says_what_a_cell_should_be(write, cell, wanted):
    with pytest.raises(ValueError, match=f"{cell!r} in line 3, column 'b', expected {wanted};"):
        read_csv(write(f"a;b\n1;2\n3;{cell}\n"))


def test_text_is_left_out_only_where_a_column_has_no_number(write):
    text = "day,load,place\n2016-07-01 12:00,1,here\n2016-07-02 13:00,2,NA\n"
    assert read_csv(write(text), skip_text=True).columns == ("load",)
    with pytest.raises(ValueError, match="has 'off' in line 2 and '7' in line 3 of column 'load'"):
        read_csv(write("day,load\na,off\nb,7\n"), skip_text=True)
    with pytest.raises(ValueError, match=r"has no column of numbers below \['day', 'place'\]"):
        read_csv(write("day,place\nmon,here\n"), skip_text=True)
    with pytest.raises(ValueError, match="skip_text is True, but columns says"):
        read_csv(write(text), ["load"], skip_text=True)


@pytest.mark.parametrize(
    "day", ["2016-07-01", "01.07.2016", "7/1/16", "12:30", "2016-07-01T00:00Z"]
)
def test_dates_are_text_with_and_without_a_header(write, day):
    assert read_csv(write(f"day,a\n{day},1\n{day},2\n"), skip_text=True).values.tolist() == [
        [1],
        [2],
    ]
    assert read_csv(write(f"{day},1\n{day},2\n"), skip_text=True).columns == ("1",)


def test_a_delimiter_at_the_end_of_every_line_is_no_column(write):
    assert read_csv(write("a,b,\n1,2,\n3,4,\n"), skip_text=True).columns == ("a", "b")
    assert read_csv(write("1,2,\n3,4,\n"), skip_text=True).columns == ("0", "1")
    assert read_csv(write("a,b,,\n1,2,,\n"), skip_text=True).columns == ("a", "b")
    for text in ("a,,b\n1,,2\n", "1,,2\n3,,4\n", "1,\n", "a,,\n1,,NA\n"):
        with pytest.raises(ValueError, match=r"has '(NA)?' in line"):
            read_csv(write(text), skip_text=True)
    with pytest.raises(ValueError, match="has '' in line 2, column 'c'"):
        read_csv(write("a,b,c\n1,2,\n3,4,\n"), skip_text=True)
    with pytest.raises(ValueError, match="has '' in line 2, column ''"):
        read_csv(write("a,b,\n1,2,\n"))


def test_a_blank_line_is_a_gap_in_a_table_of_one_column_only(write):
    assert read_csv(write("\n\na\n1\n2\n\n\n")).values.tolist() == [[1], [2]]
    assert read_csv(write("a,b\n1,2\n  \n3,4\n")).values.tolist() == [[1, 2], [3, 4]]
    for text, line in [("a\n\n1\n2\n", 2), ("a\n1\n\n2\n", 3), ("1\n \n2\n", 2)]:
        with pytest.raises(ValueError, match=f"has '' in line {line}, expected a number and no"):
            read_csv(write(text))
    with pytest.raises(ValueError, match="has '' in line 2, column 'a'"):
        read_csv(write('a\n""\n1\n'))


@pytest.mark.parametrize(
    "text",
    [
        "1,5;2,5\n2,5;3\n",
        "2016-07-01;1,5\n2016-07-02;2,5\n",
        "day;load\n2016-07-01;1,5\n",
        '"load, kW";"heat, C"\n1,5;2,5\n',
        "1,5\t2\n3,5\t4\n",
    ],
)
def test_decimal_commas_never_pass_for_delimiters(write, text):
    with pytest.raises(ValueError, match=r"has '1,5' in line ., column .* a point before"):
        read_csv(write(text), skip_text=True)


def test_the_delimiter_divides_lines_evenly_whatever_stands_within_cells(write):
    assert read_csv(write('"a, b";"c, d"\n1;2\n')).columns == ("a, b", "c, d")
    assert read_csv(write("1,a;b,3\n2,c;d,4\n"), [0, 2]).values.tolist() == [[1, 3], [2, 4]]
    assert read_csv(write("a b\n1 2\n"), delimiter=" ").values.tolist() == [[1, 2]]
    for wrong in ["", "::", '"', "\n", 5]:
        with pytest.raises(ValueError, match=r"delimiter is .*, expected one character"):
            read_csv(write("a,b\n1,2\n"), delimiter=wrong)


def test_numbers_keep_all_digits_of_float64(write):
    cells = ["1.7976931348623157e308", "5e-324", "1600000000.123456", "0.1", "1e39"]
    cells += ["9007199254740992", "-9223372036854775808", "100000000000000000000"]
    found = read_csv(write("x\n" + "\n".join(cells) + "\n")).values
    assert found.dtype == np.float64
    assert found[:, 0].tolist() == [float(cell) for cell in cells]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9))
def test_every_float64_is_read_as_it_was_written(tmp_path_factory, numbers):
    path = tmp_path_factory.mktemp("floats") / "a.csv"
    path.write_text("".join(f"{number!r}\n" for number in numbers))
    assert read_csv(path).values[:, 0].tolist() == numbers


def test_names_that_occur_twice_must_not_be_asked_for(write):
    path = write("a,b,a\n1,2,3\n")
    assert read_csv(path).values.tolist() == [[1, 2, 3]]
    assert read_csv(path, ["b", 2]).values.tolist() == [[2, 3]]
    with pytest.raises(ValueError, match="has 2 columns 'a', expected one"):
        read_csv(path, ["a"])
    for wrong in [-1, 3, 10**400]:
        with pytest.raises(ValueError, match="columns "):
            read_csv(path, [wrong])
    with pytest.raises(TypeError, match="columns should be of type int, got: float"):
        read_csv(path, [1.0])


def test_no_limit_of_a_library_decides_what_is_read(write):
    long = "x" * 300_000  # the module csv stops at 131,072 characters
    assert csv.field_size_limit() == 131_072
    assert read_labelled(write(f'good,"{long}"\nbad,{long}\n')).texts == [long, long]
    digits = "0" * 200_000 + "1.5"
    assert read_csv(write(f"{long},b\n{digits},2\n")).values.tolist() == [[1.5, 2]]
    wide = ",".join(["1"] * 20_000)
    assert read_csv(write(f"{wide}\n{wide}\n")).values.shape == (2, 20_000)
    many = "9" * (sys.get_int_max_str_digits() + 1)
    with pytest.raises(ValueError, match=r"has '999.*\.\.\. in line 2, column 'a'") as caught:
        read_csv(write(f"a\n{many}\n"))
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("sign", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\x00"])
def test_no_other_sign_than_a_line_end_ends_a_line(write, sign):
    assert read_labelled(write(f"good,one{sign}two\n")).texts == [f"one{sign}two"]
    for skip_text in (False, True):
        with pytest.raises(ValueError, match="in line 2, column 'a', expected a number"):
            read_csv(write(f"a,b\n1{sign}2,3\n"), skip_text=skip_text)


def test_line_ends_of_every_system_are_read_alike(write):
    for end in ["\n", "\r\n", "\r"]:
        assert read_csv(write(f"\ufeffa,b{end}1,2{end}3,4{end}")).values.tolist() == [
            [1, 2],
            [3, 4],
        ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('good,fine\nbad,"oh\ndear\n', "has a quote in line 2 that never ends"),
        ('good,"fine"ly\n', "has a quote in line 1 that ends within a cell, expected ','"),
        ('good,"fi\nne"ly\n', "has a quote in line 2 that ends within a cell, expected ','"),
    ],
)
def test_quotes_that_do_not_stand_around_a_cell_are_named(write, text, message):
    with pytest.raises(ValueError, match=message):
        read_labelled(write(text))


CELLS = st.text(st.sampled_from('ab,;" \n\u2028\t'), max_size=6).map(lambda cell: cell.lstrip(" "))


@given(st.lists(st.lists(CELLS, min_size=2, max_size=4), min_size=1, max_size=5))
def test_rows_are_what_the_standard_library_wrote(rows):
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    found = [row for _, row in csv_rows(file.getvalue().removesuffix("\n").split("\n"), "a.csv")]
    assert found == rows


def test_many_quotes_and_lines_take_linear_time(write):
    text = "good," + '"' + 'a""\n' * 200_000 + '"\n'
    assert len(read_labelled(write(text)).texts[0]) == 600_000


@pytest.mark.parametrize("row", [0, ROWS - 1])
@pytest.mark.parametrize("cell", ["", "NA", "1,5", "1 234"])
def test_a_training_names_the_cell_instead_of_leaving_its_column_out(
    write, cell, row, tmp_path, capsys
):
    text, line = table(cell, row)
    words = ["train", "forecast", str(write(text)), "--out", str(tmp_path / "model")]
    assert main([*words, "--steps", "1"]) == 1
    error = capsys.readouterr().err
    assert f"a.csv has {cell!r} in line {line}, column 'heat', expected a number" in error
    assert "--columns can name the columns to read" in error
    assert not list(tmp_path.glob("model*"))


def test_a_training_refuses_two_columns_of_one_name(write, tmp_path, capsys):
    words = ["train", "forecast", str(write("a,a\n1,2\n3,4\n")), "--out", str(tmp_path / "model")]
    assert main(words) == 1
    assert "the data has 2 columns 'a', expected one" in capsys.readouterr().err
