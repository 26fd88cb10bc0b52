"""Lines of a model stand only when the evidence bears out every number and date in them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_service.questions.evidence import MAX_LINE, bind, facts_of, why_refused

EVIDENCE = "Will turnout exceed 62% by March 31, 2026? Two sources: $1.5 million, 1,200 votes, -3 C"

STANDS = [
    "The threshold is 0.62 of voters",
    "The threshold is 62 % of voters",
    "The end is 2026-03-31",
    "The end is 31 March 2026",
    "The end is Mar 31",
    "It ends in March 2026",
    "It ends in 2026",
    "2 sources are named",
    "At stake are 1,500,000 or 1.5m dollars, 1200 votes",
    "It may turn out that sources disagree",
    "The temperature is -3",
]
FALLS = [
    ("The threshold is 63 %", "NOT_IN_EVIDENCE"),
    ("The threshold is 62", "NOT_IN_EVIDENCE"),
    ("The end is 2026-03-30", "NOT_IN_EVIDENCE"),
    ("The end is March 30", "NOT_IN_EVIDENCE"),
    ("It ends in April", "NOT_IN_EVIDENCE"),
    ("It ends in 2027", "NOT_IN_EVIDENCE"),
    ("Three sources are named", "NOT_IN_EVIDENCE"),
    ("At stake are 15 million dollars", "NOT_IN_EVIDENCE"),
    ("６３ votes", "NOT_IN_EVIDENCE"),
    ("The temperature is 3", "NOT_IN_EVIDENCE"),
    ("This will certainly resolve", "ABSOLUTE"),
    ("A GUARANTEED dispute", "ABSOLUTE"),
    ("It never resolves", "ABSOLUTE"),
    ("x" * (MAX_LINE + 1), "LENGTH"),
    ("  ", "LENGTH"),
    ("two\nlines", "CONTROL"),
    ("hidden\u202eorder", "CONTROL"),
]


@pytest.mark.parametrize("line", STANDS)
def test_a_line_that_the_evidence_bears_out_stands(line: str) -> None:
    assert why_refused(line, facts_of(EVIDENCE)) is None


@pytest.mark.parametrize(("line", "why"), FALLS)
def test_a_line_that_it_does_not_bear_out_falls(line: str, why: str) -> None:
    assert why_refused(line, facts_of(EVIDENCE)) == why


def test_what_falls_is_replaced_and_counted() -> None:
    bound = bind(
        ["The threshold is 62 %", "It was 99 %", "It is guaranteed"],
        EVIDENCE,
        instead=["No source is named"],
    )
    assert bound.lines == ("The threshold is 62 %", "No source is named")
    assert bound.replaced == 2


@given(st.decimals(0, 10**6, places=3, allow_nan=False))
def test_a_number_is_the_same_however_it_is_written(number: Decimal) -> None:
    share = facts_of(f"{number}%").numbers
    assert share == facts_of(f"{number.scaleb(-2):f}").numbers
    assert facts_of(f"{number:,}").numbers == facts_of(f"{number}").numbers


@given(st.text(max_size=200), st.text(max_size=200))
def test_whatever_stands_says_no_number_that_the_evidence_does_not(line: str, text: str) -> None:
    known = facts_of(text)
    years = {Decimal(year) for year, _, _ in known.dates if year is not None}
    if why_refused(line, known) is None:
        assert facts_of(line).numbers <= known.numbers | years
        assert len(line) <= MAX_LINE


@given(st.text(max_size=200))
def test_a_text_bears_out_itself(text: str) -> None:
    facts = facts_of(text)
    assert facts.bear_out(facts)


@pytest.mark.parametrize(
    "line",
    [
        "Claim your refund at https://evil.example",
        "See www.evil.example for the outcome",
        "Ask refunds@evil.example about it",
        "<b>This is certain to be fair</b>",
        "Visit evil.com before you trade",
    ],
)
def test_addresses_and_markup_are_nobodys_reason(line: str) -> None:
    assert why_refused(line, facts_of(line)) == "MARKUP"
