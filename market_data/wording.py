"""What a question says, in a form in which two venues' wordings of it are equal.

Words are lower case, without endings and filling words, and with one name for what has several.
Numbers, negations, directions ("above", "below") and deciding words ("win" or "run", "gold" or
"silver") are facts, because questions that differ in one of them alone are different questions,
however alike they read.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKEN = re.compile(r"[$€£]?\d[\d,]*(?:\.\d+)?(?:[kmb](?![a-z])|%)?|[a-z]+(?:n't)?|[<>≤≥]=?")
_SCALES = {"k": 1e3, "m": 1e6, "b": 1e9, "thousand": 1e3, "million": 1e6, "billion": 1e9}
_PHRASES = (
    ("at least", "minimum"), ("or more", "minimum"), ("or higher", "minimum"),
    ("no less than", "minimum"), ("at most", "maximum"), ("or less", "maximum"),
    ("or fewer", "maximum"), ("or lower", "maximum"), ("no more than", "maximum"),
    ("more than", "above"), ("greater than", "above"), ("higher than", "above"),
    ("less than", "below"), ("fewer than", "below"), ("lower than", "below"),
    ("in favor of", "for"), ("in favour of", "for"), ("strike down", "overturn"),
    ("struck down", "overturn"), ("democratic party", "democrat"),
    ("republican party", "republican"), ("fed funds", "fed"), ("federal reserve", "fed"),
    ("united states", "us"),
)  # fmt: skip
_NEGATIONS = _words("not no never without neither nor cannot fail fails failed")
_DIRECTIONS = {
    "above": "above", "over": "above", "exceed": "above", "exceeds": "above", ">": "above",
    "surpass": "above", "below": "below", "under": "below", "<": "below",
    "between": "between", "minimum": "minimum", ">=": "minimum", "≥": "minimum",
    "maximum": "maximum", "<=": "maximum", "≤": "maximum",
}  # fmt: skip
_FILLING = _words(
    "a an and any are as at be been by do does for from get has have if in is it its of "
    "on or s that the their there this to was were will with would"
)
_NAMES = {
    "btc": "bitcoin", "eth": "ethereum", "sol": "solana", "doge": "dogecoin", "gop": "republican",
    "dem": "democrat", "dems": "democrat", "democratic": "democrat", "usa": "us",
    "winner": "win", "won": "win", "winning": "win", "reached": "reach", "presidential":
    "president", "presidency": "president", "jan": "january", "feb": "february", "mar": "march",
    "apr": "april", "jun": "june", "jul": "july", "aug": "august", "sep": "september",
    "sept": "september", "oct": "october", "nov": "november", "dec": "december",
    "hike": "increase", "raise": "increase", "raised": "increase", "rise": "increase",
    "increased": "increase", "cut": "decrease", "reduce": "decrease", "reduced": "decrease",
    "lower": "decrease", "decreased": "decrease", "lost": "lose", "ran": "run", "running": "run",
    "fewest": "least", "1st": "first", "2nd": "second", "3rd": "third", "men's": "men",
    "unchanged": "hold", "begin": "start", "began": "start",
}  # fmt: skip
_DECIDING = _words(
    "win lose draw tie run drop leave stay remain resign visit announce join "
    "gold silver bronze most least more fewer only all both either each every "
    "first second third last next former new again another other "
    "increase decrease hold fall high low highest lowest record start end open close "
    "before after until since during against pro anti north south east west "
    "men women primary general runoff special semifinal quarterfinal final half quarter overtime "
    "house senate democrat republican independent president vice governor mayor prime chancellor "
    "nominee nomination nominate elect impeach indict charge convict acquit pardon "
    "confirm deny approve reject pass veto uphold overturn sign break ban legal illegal "
    "buy sell acquire merge attack invade support oppose endorse head total combined"
)
_ORDERED = _words("beat beats defeat before after than vs versus")
_MONTHS = _words(
    "january february march april may june july august september october november december"
)


@dataclass(frozen=True, slots=True)
class Wording:
    """A question, taken apart.

    Attributes:
        words: content words in their order, each once.
        facts: what must agree word for word: numbers with the word that they belong to (years and
            days stand alone), directions, deciding words, and whether the question is negated.
        is_ordered: whether it matters who comes first ("A beats B").
    """

    words: tuple[str, ...]
    facts: tuple[str, ...]
    is_ordered: bool


def take_apart(question: str) -> Wording:
    """The wording of a question.

    >>> take_apart("Will BTC be above $100k?").facts
    ('above', 'bitcoin=100000')
    >>> take_apart("Bitcoin over 100,000") == take_apart("Will BTC be above $100k?")
    True
    >>> take_apart("Will it not rain?").facts
    ('not',)
    >>> take_apart("Will Norway win the most gold medals?").facts
    ('gold', 'most', 'win')
    """
    text = unicodedata.normalize("NFKD", question.lower().replace("’", "'"))
    text = "".join(letter for letter in text if not unicodedata.combining(letter))
    for phrase, name in _PHRASES:
        text = text.replace(phrase, name)
    words: list[str] = []
    facts: list[str] = []
    negations = 0
    tokens = _TOKEN.findall(text)
    for place, token in enumerate(tokens):
        if token in _NEGATIONS or token.endswith("n't"):
            negations += 1
        elif token in _DIRECTIONS:
            facts.append(_DIRECTIONS[token])
        elif token.lstrip("$€£")[:1].isdigit():
            after = tokens[place + 1] if place + 1 < len(tokens) else ""
            facts.append(_number(token, after, words))
        elif token not in _FILLING and token not in _SCALES:
            words.append(_word(token))
    facts += _DECIDING.intersection(words)
    if negations % 2:
        facts.append("not")
    is_ordered = not _ORDERED.isdisjoint(tokens)
    return Wording(tuple(dict.fromkeys(words)), tuple(sorted(facts)), is_ordered)


def _number(token: str, after: str, words: list[str]) -> str:
    """A number with the word before it, which says what is counted."""
    bare = token.lstrip("$€£").replace(",", "")
    scale = _SCALES.get(bare[-1], _SCALES.get(after, 1.0))
    unit = "%" if bare.endswith("%") else ""
    value = float(bare.rstrip("kmb%")) * scale
    text = f"{value:.10g}{unit}"
    is_year = 1900 <= value <= 2100 and not unit and scale == 1.0
    before = words[-1] if words else ""
    if is_year or not before:
        return text
    return f"{before}={text}"


def _word(token: str) -> str:
    """A word without its ending, under its usual name."""
    named = _NAMES.get(token, token)
    bare = _without_ending(named)
    return _NAMES.get(bare, bare)


def _without_ending(word: str) -> str:
    if word in _MONTHS or len(word) <= 3:
        return word
    for ending, rest in (("ies", "y"), ("ches", "ch"), ("sses", "ss")):
        if word.endswith(ending):
            return word[: -len(ending)] + rest
    return word[:-1] if word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
