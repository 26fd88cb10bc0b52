"""The judgement of rules: always the same, no better for a further doubt, ordered as by people."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_service.questions.evidence import MAX_LINE
from calibration_service.questions.rules import RULES, judge
from calibration_service.questions.text import Question

END = datetime(2026, 12, 31, tzinfo=UTC)
YES_NO = ("Yes", "No")

CLEAR = [
    "Will BTC close above $100,000 on Binance on 2026-12-31 at 23:59 UTC?",
    "Will the Lakers win their game on March 3, 2026, according to the official score?",
    "Will US CPI for May 2026 be above 3.0% according to the BLS?",
]
MIDDLING = [
    "Will Alice Example win the election in November 2026?",
    "Will a ceasefire agreement be announced before June 30, 2026?",
    "Will the index be above 5000 by March 2026?",
]
MURKY = [
    "Will the economy get significantly worse soon?",
    "Will the new phone be a successful product, considered the best by experts?",
    "Will there be a major crisis and a serious conflict in the near future?",
]
"""Invented questions; people put each group before the next."""


def question(text: str, **fields: object) -> Question:
    return Question(text, **({"outcomes": YES_NO, "end_at": END} | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize("better", CLEAR)
@pytest.mark.parametrize("worse", MIDDLING)
def test_a_clear_question_is_judged_better_than_a_middling_one(better: str, worse: str) -> None:
    assert judge(question(better)).ambiguity < judge(question(worse)).ambiguity
    assert judge(question(better)).resolution_risk < judge(question(worse)).resolution_risk


@pytest.mark.parametrize("better", MIDDLING)
@pytest.mark.parametrize("worse", MURKY)
def test_a_middling_question_is_judged_better_than_a_murky_one(better: str, worse: str) -> None:
    assert judge(question(better)).ambiguity < judge(question(worse)).ambiguity
    assert judge(question(better)).resolution_risk < judge(question(worse)).resolution_risk


FIRES = [
    ("VAGUE_DEGREE", "Will prices rise significantly in May 2026?", {}),
    ("VAGUE_TIME", "Will the bridge open to traffic soon?", {}),
    ("SUBJECTIVE", "Will it be the best film of the year?", {}),
    ("NO_DATE", "Will the bridge open to traffic?", {"end_at": None}),
    ("FEW_WORDS", "Rain tomorrow?", {}),
    ("LOOSE_EVENT", "Will a deal be signed on 2026-05-01?", {}),
    ("MANY_CLAUSES", "Will A win and B lose unless C resigns in May 2026?", {}),
    ("NEGATION", "Will the bill not pass in May 2026?", {}),
    ("BARE_NUMBER", "Will the index be above 5000 by 2026-05-01?", {}),
    ("FEW_OUTCOMES", "Will it rain in Oslo on 2026-05-01?", {"outcomes": ("Yes",)}),
    ("CLOCK_WITHOUT_ZONE", "Will it rain in Oslo at 5pm on 2026-05-01?", {}),
    ("DATE_AT_VENUE", "Will the bridge open to traffic?", {}),
    ("MANY_OUTCOMES", "Who will win on 2026-05-01?", {"outcomes": ("A", "B", "C")}),
    ("NO_SOURCE", "Will it rain in Oslo on 2026-05-01?", {}),
    ("DAY_WITHOUT_ZONE", "Will it rain in Oslo on 2026-05-01?", {}),
]


@pytest.mark.parametrize(("code", "text", "fields"), FIRES, ids=[code for code, _, _ in FIRES])
def test_each_rule_fires_where_it_should_and_names_itself(
    code: str, text: str, fields: dict[str, object]
) -> None:
    rule = next(rule for rule in RULES if rule.code == code)
    asked = question(text, **fields)
    assert rule.finds(text.casefold(), asked) is not None
    assert rule.finds(CLEAR[0].casefold(), question(CLEAR[0])) is None
    assert any(bullet.startswith(rule.says) for bullet in judge(asked).bullets)


def test_every_rule_has_an_example() -> None:
    assert {code for code, _, _ in FIRES} == {rule.code for rule in RULES}


@pytest.mark.parametrize("text", ["Will prices rise by $100 by May 2026?",
                                  "Will it be above 100 points in May 2026?",
                                  "Will turnout be over 60% on May 3, 2026?"])  # fmt: skip
def test_a_number_with_its_unit_is_no_reason_for_doubt(text: str) -> None:
    assert not any("unit" in bullet for bullet in judge(question(text)).bullets)


WORDS = st.lists(
    st.sampled_from(
        [*" ".join([*CLEAR, *MIDDLING, *MURKY]).split(), "not", "soon", "5", "17:00", "or"]
    ),
    max_size=40,
)


@given(WORDS, st.sampled_from(["significantly", "eventually", "considered best,", "never"]))
def test_a_further_doubt_never_lowers_a_judgement(words: list[str], doubt: str) -> None:
    text = " ".join(["Is it the case that", *words])
    plain, doubted = judge(question(text)), judge(question(f"{doubt} {text}"))
    assert doubted.ambiguity >= plain.ambiguity
    assert doubted.resolution_risk >= plain.resolution_risk


@given(WORDS, st.integers(0, 3), st.sampled_from([" ", "\n", "\t \u00a0"]))
def test_case_and_white_space_do_not_matter(words: list[str], case: int, gap: str) -> None:
    changed = [str.upper, str.lower, str.title, str.swapcase][case](gap.join(["", *words, ""]))
    assert judge(question(changed)) == judge(question(" ".join(words)))
    assert question(changed).digest == question(" ".join(words)).digest


@given(st.text(max_size=300), st.lists(st.text(max_size=20), max_size=5))
def test_any_text_has_a_judgement_within_its_limits(text: str, outcomes: list[str]) -> None:
    found = judge(Question(text, tuple(outcomes)))
    assert 0 <= found.ambiguity <= 1
    assert 0 <= found.resolution_risk <= 1
    assert len(found.bullets) <= 5
    assert all(0 < len(line) <= MAX_LINE for line in found.bullets)
    assert len(found.triggers) <= 8
    assert judge(Question(text, tuple(outcomes))) == found


def test_another_text_outcome_or_end_has_another_digest() -> None:
    digests = {
        question("A?").digest,
        question("B?").digest,
        question("A?", outcomes=("No", "Yes")).digest,
        question("A?", end_at=None).digest,
    }
    assert len(digests) == 4
