"""Lines of a language model, held to the evidence that it was shown.

A line stays when it is one line of at most 140 characters, claims nothing absolutely, and each
number and date in it occurs in the evidence. 62 % and 0.62 are the same number, and so are "two"
and 2, 1,500 and "1.5 thousand", "March 31" and 2026-03-31. Anything else is replaced.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

MAX_LINE = 140
"""Characters of a line."""

_MARKUP = re.compile(
    r"[<>@`{}\[\]|\\]|://|\bwww\.|\b[a-z0-9-]+\.(?:com|org|net|io|xyz|example)\b", re.IGNORECASE
)
_ABSOLUTE = re.compile(
    r"\b(?:definite(?:ly)?|certain(?:ly|ty)?|guarantee(?:d|s)?|always|never|impossible|inevitabl[ey]"
    r"|undoubtedly|unquestionabl[ey]|(?:no|without(?: a)?) doubt|beyond doubt|sure thing|surely"
    r"|risk[- ]free|cannot (?:fail|lose)|can't (?:fail|lose)|bound to)\b",
    re.IGNORECASE,
)
_MONTHS = {
    name: number + 1
    for number, names in enumerate(
        ("january jan", "february feb", "march mar", "april apr", "may", "june jun", "july jul",
         "august aug", "september sept sep", "october oct", "november nov", "december dec")
    )
    for name in names.split()
}  # fmt: skip
_NAME = "|".join(sorted(_MONTHS, key=len, reverse=True))
_ORDINAL = r"(?:st|nd|rd|th)?"
_DATES = (
    re.compile(r"\b(?P<y>\d{4})-(?P<m>\d{1,2})-(?P<d>\d{1,2})"),
    re.compile(rf"\b(?P<n>{_NAME})\.? (?P<d>\d{{1,2}}){_ORDINAL}\b(?:,? (?P<y>\d{{4}})\b)?", re.I),
    re.compile(
        rf"\b(?P<d>\d{{1,2}}){_ORDINAL} (?:of )?(?P<n>{_NAME})\b\.?(?:,? (?P<y>\d{{4}})\b)?", re.I
    ),
    re.compile(rf"\b(?P<n>{_NAME})\.?,? (?P<y>\d{{4}})\b", re.I),
    re.compile(rf"\b(?P<n>(?!May\b)(?:{_NAME.title()}))\b"),
)
_SCALES = {"thousand": 3, "k": 3, "million": 6, "m": 6, "mn": 6, "billion": 9, "bn": 9, "b": 9}
_NUMBER = re.compile(
    r"(?P<sign>(?<![\w.,])[-−])?(?P<digits>\d[\d,]*(?:\.\d+)?|\.\d+)"
    r"(?:\s*(?P<percent>%|percent\b|per cent\b)"
    r"|\s*(?P<scale>thousand|million|billion|bn|mn|k|m|b)\b)?",
    re.IGNORECASE,
)
_SPELLED = {
    "half": Decimal("0.5"), "two": Decimal(2), "three": Decimal(3), "four": Decimal(4),
    "five": Decimal(5), "six": Decimal(6), "seven": Decimal(7), "eight": Decimal(8),
    "nine": Decimal(9), "ten": Decimal(10), "eleven": Decimal(11), "twelve": Decimal(12),
    "dozen": Decimal(12), "twenty": Decimal(20), "hundred": Decimal(100),
    "thousand": Decimal(1000), "million": Decimal(10**6), "billion": Decimal(10**9),
}  # fmt: skip
_WORD = re.compile(r"[a-z]+")

DatePart = tuple[int | None, int, int | None]
"""Year, month and day; None where it is not said."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Numbers and dates of a text.

    Attributes:
        numbers: percentages as shares.
        dates: with as much of them as is said.
    """

    numbers: frozenset[Decimal]
    dates: frozenset[DatePart]

    def bear_out(self, claimed: Facts) -> bool:
        """Whether everything claimed occurs here."""
        years = {Decimal(year) for year, _, _ in self.dates if year is not None}
        return claimed.numbers <= self.numbers | years and all(
            any(_agrees(date, known) for known in self.dates) for date in claimed.dates
        )


@dataclass(frozen=True, slots=True)
class Bound:
    """Lines that are borne out, and how many were not."""

    lines: tuple[str, ...]
    replaced: int


def bind(lines: Sequence[str], evidence: str, *, instead: Sequence[str], most: int = 5) -> Bound:
    """The lines that hold; each that does not is replaced by the next of ``instead``, if any.

    Args:
        lines: of a model.
        evidence: what it was shown.
        instead: lines that need no check, best first.
        most: lines at most.
    """
    known = facts_of(evidence)
    spare = [line for line in instead if line not in lines]
    kept: list[str] = []
    replaced = 0
    for line in lines[:most]:
        if why_refused(line, known) is None:
            kept.append(line)
            continue
        replaced += 1
        if spare:
            kept.append(spare.pop(0))
    return Bound(tuple(dict.fromkeys(kept)), replaced)


def why_refused(line: str, evidence: Facts) -> str | None:
    """Why a line cannot stand: LENGTH, CONTROL, MARKUP, ABSOLUTE, NOT_IN_EVIDENCE; None if it can.

    An address or markup in a sentence about a question is somebody else's words.
    """
    if not line.strip() or len(line) > MAX_LINE:
        return "LENGTH"
    if any(unicodedata.category(one).startswith("C") or one in "\u2028\u2029" for one in line):
        return "CONTROL"
    if _MARKUP.search(unicodedata.normalize("NFKC", line)):
        return "MARKUP"
    if _ABSOLUTE.search(unicodedata.normalize("NFKC", line)):
        return "ABSOLUTE"
    return None if evidence.bear_out(facts_of(line)) else "NOT_IN_EVIDENCE"


def facts_of(text: str) -> Facts:
    """Numbers and dates that a text names.

    >>> sorted(facts_of("62 % on March 31, 2026").numbers)
    [Decimal('0.62')]
    >>> facts_of("62 % on March 31, 2026").dates
    frozenset({(2026, 3, 31)})
    """
    rest = unicodedata.normalize("NFKC", text)
    dates: set[DatePart] = set()
    for pattern in _DATES:
        dates.update(_date(match) for match in pattern.finditer(rest))
        rest = pattern.sub(" ; ", rest)
    return Facts(frozenset(_numbers(rest)), frozenset(dates))


def _date(match: re.Match[str]) -> DatePart:
    found = match.groupdict()
    month = int(found["m"]) if found.get("m") else _MONTHS[found["n"].lower()]
    year, day = found.get("y"), found.get("d")
    return (int(year) if year else None, month, int(day) if day else None)


def _agrees(claimed: DatePart, known: DatePart) -> bool:
    pairs = zip(claimed, known, strict=True)
    return all(said is None or said == stored for said, stored in pairs)


def _numbers(text: str) -> Iterator[Decimal]:
    for match in _NUMBER.finditer(text):
        try:
            value = Decimal(match["digits"].rstrip(",").replace(",", ""))
        except InvalidOperation:
            continue
        if match["scale"]:
            value = value.scaleb(_SCALES[match["scale"].lower()])
        if match["percent"]:
            value = value.scaleb(-2)
        yield -value if match["sign"] else value
    for match in _WORD.finditer(_NUMBER.sub(" ", text).lower()):
        if match.group(0) in _SPELLED:
            yield _SPELLED[match.group(0)]
