"""The small part of GraphQL that a subgraph client uses: listings with paging and filters."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from itertools import islice
from typing import Any

_TOKEN = re.compile(r'\s*("(?:[^"\\]|\\.)*"|[$@]?\w+|-?\d+|[{}\[\]():,!=])')
_COMMENT = re.compile(r"^\s*#.*$", re.MULTILINE)
_FIRST_LIMIT = 1000


class QueryError(ValueError):
    """A query outside the subset; the message is sent to the client."""


@dataclass(frozen=True, slots=True)
class Listing:
    """One parsed listing.

    Attributes:
        entity: "splits" and the like.
        first, skip: page size (≤ 1000) and rows to pass over.
        order_by: field to order by; descending when ``is_descending``.
        where: conditions such as ``{"id_gt": "0x…", "timestamp_gte": "17…"}``.
        fields: columns asked for.
    """

    entity: str
    first: int
    skip: int
    order_by: str
    is_descending: bool
    where: dict[str, Any]
    fields: tuple[str, ...]


def parse_listings(query: str, variables: dict[str, Any]) -> list[Listing]:
    """Parse a query document; listings that ``@include`` leaves out are left out.

    >>> parse_listings("{ splits(first: 5, where: {id_gt: $a}) { id } }", {"a": "x"})[0].where
    {'id_gt': 'x'}
    """
    tokens = _tokens(query)
    start = tokens.index("{") if "{" in tokens else len(tokens)
    rest = tokens[start + 1 :]
    if not rest:
        raise QueryError("no selection set")
    listings: list[Listing] = []
    while rest and rest[0] != "}":
        listing, is_included, rest = _listing(rest, variables)
        listings += [listing] if is_included else []
    if not rest:
        raise QueryError("missing '}'")
    return listings


def _listing(tokens: list[str], variables: dict[str, Any]) -> tuple[Listing, bool, list[str]]:
    """One listing, whether it is asked for, and what comes behind it."""
    entity, rest = tokens[0], tokens[1:]
    arguments: dict[str, Any] = {}
    if rest[:1] == ["("]:
        arguments, rest = _object(rest[1:], ")", variables)
    is_included = True
    if rest[:2] == ["@include", "("]:
        condition, rest = _object(rest[2:], ")", variables)
        is_included = condition.get("if") is True
    if rest[:1] != ["{"] or "}" not in rest:
        raise QueryError(f"'{entity}' needs a selection set")
    end = rest.index("}")
    first = int(arguments.get("first", 100))
    if not 1 <= first <= _FIRST_LIMIT:
        raise QueryError(f"first must be between 1 and {_FIRST_LIMIT}")
    listing = Listing(
        entity=entity,
        first=first,
        skip=int(arguments.get("skip", 0)),
        order_by=str(arguments.get("orderBy", "id")),
        is_descending=arguments.get("orderDirection") == "desc",
        where=dict(arguments.get("where") or {}),
        fields=tuple(rest[1:end]),
    )
    return listing, is_included, rest[end + 1 :]


def select(listing: Listing, rows: list[dict[str, Any]], ids: list[str]) -> list[dict[str, Any]]:
    """Apply a listing to the rows of its entity.

    Args:
        rows: all rows, ordered by their text id.
        ids: the ids of ``rows``, so that a page after a known id is found by bisection.
    """
    where = dict(listing.where)
    key = listing.order_by
    if rows and key not in rows[0]:
        raise QueryError(f"cannot order by '{key}'")
    begin = bisect_right(ids, str(where.pop("id_gt"))) if "id_gt" in where else 0
    matching = (row for row in islice(rows, begin, None) if _holds_all(row, where))
    if key == "id" and not listing.is_descending:
        page = list(islice(matching, listing.skip, listing.skip + listing.first))
    else:
        kept = sorted(
            matching, key=lambda row: (_number(row[key]), row["id"]), reverse=listing.is_descending
        )
        page = kept[listing.skip : listing.skip + listing.first]
    return [{name: row.get(name) for name in listing.fields} for row in page]


def _holds_all(row: dict[str, Any], where: dict[str, Any]) -> bool:
    return all(_holds(row, condition, wanted) for condition, wanted in where.items())


def _tokens(query: str) -> list[str]:
    tokens, at, text = [], 0, _COMMENT.sub("", query).rstrip()
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise QueryError(f"cannot read the query at character {at}")
        tokens.append(match.group(1))
        at = match.end()
    return tokens


def _object(
    tokens: list[str], end: str, variables: dict[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    out: dict[str, Any] = {}
    while tokens and tokens[0] != end:
        if tokens[0] == ",":  # commas are optional in GraphQL
            tokens = tokens[1:]
            continue
        if len(tokens) < 3 or tokens[1] != ":":
            raise QueryError("expected 'name: value'")
        name, tokens = tokens[0], tokens[2:]
        if tokens[0] == "{":
            out[name], tokens = _object(tokens[1:], "}", variables)
        else:
            out[name], tokens = _value(tokens[0], variables), tokens[1:]
    if not tokens:
        raise QueryError(f"missing '{end}'")
    return out, tokens[1:]


def _value(token: str, variables: dict[str, Any]) -> Any:
    if token.startswith("$"):
        if token[1:] not in variables:
            raise QueryError(f"variable {token} is not given")
        return variables[token[1:]]
    if token.startswith('"'):
        return token[1:-1]
    return int(token) if token.lstrip("-").isdigit() else token


def _number(value: Any) -> tuple[int, Any]:
    text = str(value)
    return (0, int(text)) if text.isdigit() and len(text) < 16 else (1, text)


_COMPARE = {
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


def _holds(row: dict[str, Any], condition: str, wanted: Any) -> bool:
    name, _, comparison = condition.rpartition("_")
    if comparison == "in" and name in row:
        return str(row[name]) in {str(w) for w in wanted}
    if comparison in _COMPARE and name in row:
        return bool(_COMPARE[comparison](_number(row[name]), _number(wanted)))
    if condition in row:
        return str(row[condition]) == str(wanted)
    raise QueryError(f"cannot filter by '{condition}'")
