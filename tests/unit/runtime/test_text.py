"""External names are escaped in every output."""

import csv
import io
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from texts import ANY

from audionas.reporting.markup import from_spreadsheet, markdown, spreadsheet
from audionas.runtime.text import line, lines


@given(ANY)
def test_nothing_hidden_reaches_a_terminal(text):
    for said in (line(text), lines(text).replace("\n", "")):
        assert {
            unicodedata.category(sign) for sign in said.replace("\u200c", "").replace("\u200d", "")
        }.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})
        said.encode()


@given(st.text(min_size=1, max_size=3), st.integers(2, 3000))
def test_what_is_printed_has_a_limit(text, times):
    assert len(line(text * times)) <= 200 and len(lines(text * times, 100)) <= 10 * 130


@pytest.mark.parametrize("text", ["Dog", "كلب", "می‌خواهم", "👩‍🚒", "Ärger, laut", "[63.7, 69.2]", "a_b"])
def test_names_of_any_language_stay_as_they_are(text):
    assert line(text) == lines(text) == markdown(text) == spreadsheet(text) == text


@given(ANY)
@example("'=1")
@example("''=1")
def test_a_spreadsheet_runs_no_cell_and_the_cell_can_be_read_again(text):
    cell = spreadsheet(text)
    number = cell.lstrip("+-")[:1].isdigit() and "=" not in cell
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or number
    assert from_spreadsheet(cell) == line(text, 2_000)
    file = io.StringIO()
    csv.writer(file).writerow([cell])
    assert next(csv.reader(io.StringIO(file.getvalue()))) == [cell]


@pytest.mark.parametrize("number", ["-1.5", "+13", "1e5", "-1e-05", "+1,000", "007"])
def test_a_number_stays_one_in_a_spreadsheet(number):
    assert spreadsheet(number) == number


@pytest.mark.parametrize(
    "text, written",
    [
        ("a|b", r"a\|b"),
        ("<script>", r"\<script\>"),
        ("`x`", r"\`x\`"),
        ("_it_ *b* ~~s~~", r"\_it\_ \*b\* \~\~s\~\~"),
        ("[x](y)", r"\[x](y)"),
        ("&lt;", r"\&lt;"),
        ("a\n\n# b", "a # b"),
    ],
)
def test_markup_is_escaped_in_markdown(text, written):
    assert markdown(text) == written


@given(ANY)
def test_a_markdown_cell_stays_one(text):
    cell = markdown(text)
    assert "\n" not in cell
    bare = cell.replace("\\\\", "")
    for sign in "|`<":
        assert bare.count(sign) == bare.count("\\" + sign)
