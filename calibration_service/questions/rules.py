"""Judging a question by rules: the same question always gets the same judgement.

``1 - (1 - base) · Π (1 - weight)`` over the rules that fire, for ambiguity and for resolution risk
each; so a further reason never lowers either, and both stay in [0, 1). The weights below were set
by hand so that the labelled examples of the tests come in the order in which people put them. They
are a prior, not an estimate: no outcome of a dispute went into them.

Case, white space and Unicode form do not matter; see `text.normalised`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from calibration_service.questions.evidence import MAX_LINE
from calibration_service.questions.text import Question, normalised

RULES_VERSION = "rules-1"
BASE_AMBIGUITY, BASE_RISK = 0.02, 0.03
MAX_BULLETS, MAX_TRIGGERS = 5, 8


@dataclass(frozen=True, slots=True)
class Judgement:
    """What could be argued about.

    Attributes:
        ambiguity: chance that the wording leaves the outcome open, in [0, 1].
        resolution_risk: chance that the resolution is late or disputed, in [0, 1].
        triggers: at most eight words that led to it.
        bullets: at most five reasons of at most 140 characters, the weightiest first.
    """

    ambiguity: float
    resolution_risk: float
    triggers: tuple[str, ...]
    bullets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A reason to doubt a question.

    Attributes:
        code: stable name.
        ambiguity, risk: weights in [0, 1).
        says: the bullet.
        finds: the words at fault in (normalised text, question); None where the rule does not
            fire, empty where it fires for what is missing.
    """

    code: str
    ambiguity: float
    risk: float
    says: str
    finds: Callable[[str, Question], Sequence[str] | None]


Finder = Callable[[str, Question], Sequence[str] | None]


def _words(pattern: str, least: int = 1) -> Finder:
    """Fires on at least so many matches of whole words."""
    compiled = re.compile(rf"(?<!\w)(?:{pattern})(?!\w)")

    def find(text: str, _question: Question) -> Sequence[str] | None:
        found = [match.group(0) for match in compiled.finditer(text)]
        return found if len(found) >= least else None

    return find


_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
_DATE = re.compile(
    rf"\b(?:(?:19|20)\d\d|{_MONTH}\.? \d{{1,2}}|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH}|"
    rf"\d{{1,2}}/\d{{1,2}}|q[1-4]|(?:in|by|before|during|until|through|of) {_MONTH})\b"
)
_DAY = re.compile(
    rf"\b(?:\d{{4}}-\d\d-\d\d|{_MONTH}\.? \d{{1,2}}|\d{{1,2}}(?:st|nd|rd|th)? (?:of )?{_MONTH})\b"
)
_CLOCK = re.compile(r"\b(?:\d{1,2}:\d\d|\d{1,2} ?(?:am|pm)|noon|midnight)\b")
_ZONE = re.compile(r"\b(?:utc|gmt|[ecmp][sd]?t|cest|bst|jst|kst|eastern|pacific|central time)\b")
_SOURCE = re.compile(
    r"\b(?:according to|as reported by|as published by|as measured by|as listed (?:on|by)|official"
    r"|source|per (?:the )?[a-z]{2,}|on (?:coingecko|binance|coinbase|espn|bloomberg|reuters))\b"
)
_BARE_NUMBER = re.compile(
    r"\b(?:above|below|over|under|exceeds?|at least|at most|more than|less than|reach(?:es)?|hits?"
    r"|between) (\d++(?:[.,]\d++)*+)(?=\s*(?:[?.!,;]|$|by\b|before\b|on\b|in\b|at\b|and\b|or\b))"
)


def _no_date(text: str, question: Question) -> Sequence[str] | None:
    return () if question.end_at is None and not _DATE.search(text) else None


def _date_at_the_venue_alone(text: str, question: Question) -> Sequence[str] | None:
    return () if question.end_at is not None and not _DATE.search(text) else None


def _clock_without_zone(text: str, _question: Question) -> Sequence[str] | None:
    found = [match.group(0) for match in _CLOCK.finditer(text)]
    return found if found and not _ZONE.search(text) else None


def _day_without_zone(text: str, _question: Question) -> Sequence[str] | None:
    found = [match.group(0) for match in _DAY.finditer(text)]
    return found if found and not _CLOCK.search(text) and not _ZONE.search(text) else None


def _no_source(text: str, _question: Question) -> Sequence[str] | None:
    return None if _SOURCE.search(text) else ()


def _bare_number(text: str, _question: Question) -> Sequence[str] | None:
    return [match.group(1) for match in _BARE_NUMBER.finditer(text)] or None


def _few_words(text: str, _question: Question) -> Sequence[str] | None:
    return () if len(text.split()) < 4 else None


def _few_outcomes(_text: str, question: Question) -> Sequence[str] | None:
    return () if len(question.outcomes) < 2 else None


def _many_outcomes(_text: str, question: Question) -> Sequence[str] | None:
    return () if len(question.outcomes) > 2 else None


RULES: tuple[Rule, ...] = (
    Rule("VAGUE_DEGREE", 0.35, 0.22, "Degree without a threshold", _words(
        r"significant(?:ly)?|substantial(?:ly)?|major|considerabl[ey]|meaningful(?:ly)?|notabl[ey]"
        r"|serious(?:ly)?|severe(?:ly)?|dramatic(?:ally)?|massive(?:ly)?|widespread|large(?:ly)?"
        r"|big|strong(?:ly)?|sharp(?:ly)?")),
    Rule("VAGUE_TIME", 0.30, 0.25, "Time without a date", _words(
        r"soon|shortly|eventually|imminent(?:ly)?|(?:in the )?near future|any ?time"
        r"|in the coming (?:days|weeks|months|years)|recent(?:ly)?")),
    Rule("SUBJECTIVE", 0.28, 0.22, "A matter of opinion", _words(
        r"best|worst|better|worse|success(?:ful(?:ly)?)?|popular|good|bad|fair|important"
        r"|controversial|considered|regarded|seen as|credible|acceptable|reasonable|embarrass\w*"
        r"|legitimate|effective(?:ly)?")),
    Rule("NO_DATE", 0.22, 0.30, "No date is named, and the venue gives no end", _no_date),
    Rule("FEW_WORDS", 0.30, 0.20, "Too short to say what would count", _few_words),
    Rule("LOOSE_EVENT", 0.12, 0.15, "An event that can be argued about", _words(
        r"announce[sd]?|acknowledge[sd]?|deals?|agreements?|ceasefire|invade[sd]?|invasion"
        r"|collapse[sd]?|crash(?:es|ed)?|involve[sd]?|related|support(?:s|ed)?|attack(?:s|ed)?"
        r"|conflict|crisis|recession|war")),
    Rule("MANY_CLAUSES", 0.15, 0.12, "Several conditions in one question", _words(
        r"and|or|unless|if|except|provided|but|while|as long as|excluding|including", 2)),
    Rule("NEGATION", 0.12, 0.06, "Asked by a negation", _words(
        r"not|never|without|neither|nor|no longer|fails? to|avoids?|\w+n't|\w+n’t")),
    Rule("BARE_NUMBER", 0.12, 0.08, "A number without its unit", _bare_number),
    Rule("FEW_OUTCOMES", 0.10, 0.10, "Fewer than two outcomes are listed", _few_outcomes),
    Rule("CLOCK_WITHOUT_ZONE", 0.08, 0.12, "A time of day without its zone", _clock_without_zone),
    Rule("DATE_AT_VENUE", 0.05, 0.06, "The date stands at the venue alone",
         _date_at_the_venue_alone),
    Rule("MANY_OUTCOMES", 0.05, 0.04, "More than two outcomes are listed", _many_outcomes),
    Rule("NO_SOURCE", 0.04, 0.05, "No source of the outcome is named", _no_source),
    Rule("DAY_WITHOUT_ZONE", 0.01, 0.03, "A day without the zone in which it ends",
         _day_without_zone),
)  # fmt: skip
"""Weightiest first; bullets come in this order."""


def judge(question: Question) -> Judgement:
    """The judgement of the rules."""
    text = normalised(question.text)
    clear, settled = 1.0 - BASE_AMBIGUITY, 1.0 - BASE_RISK
    triggers: dict[str, None] = {}
    bullets: list[str] = []
    for rule in RULES:
        found = rule.finds(text, question)
        if found is None:
            continue
        clear *= 1.0 - rule.ambiguity
        settled *= 1.0 - rule.risk
        words = list(dict.fromkeys(found))
        triggers.update(dict.fromkeys(word[:40] for word in words))
        said = f"{rule.says}: {', '.join(words)}" if words else rule.says
        bullets.append(_cut(said))
    return Judgement(
        ambiguity=round(1.0 - clear, 6),
        resolution_risk=round(1.0 - settled, 6),
        triggers=tuple(triggers)[:MAX_TRIGGERS],
        bullets=tuple(bullets[:MAX_BULLETS]),
    )


def _cut(line: str) -> str:
    return line if len(line) <= MAX_LINE else line[: MAX_LINE - 1] + "…"
