"""The policy file: whole, in range, and never two sets of thresholds with one stamp."""

from __future__ import annotations

from pathlib import Path

import pytest

from calibration_service.alerts.errors import PolicyError
from calibration_service.alerts.policy import DEFAULT_FILE, AlertPolicy, check_steps, load_policy


def changed(folder: Path, before: str, after: str) -> Path:
    text = DEFAULT_FILE.read_text()
    assert before in text
    file = folder / "policy.toml"
    file.write_text(text.replace(before, after))
    return file


def test_the_packaged_policy_has_the_published_thresholds(policy: AlertPolicy) -> None:
    assert (policy.alert_low_level, policy.alert_high_level) == (0.005, 0.995)
    assert (policy.consecutive_bars, policy.cooldown_seconds) == (2, 900)
    assert (policy.minimum_move_ticks, policy.minimum_move) == (2.0, 0.02)
    assert policy.open_interest_change_at_most == -0.15
    assert (policy.volume_ratio_at_least, policy.volume_history_hours) == (2.0, 6.0)
    assert (policy.ambiguity_at_most, policy.trust_at_least) == (0.35, 60.0)


@pytest.mark.parametrize(
    ("before", "after", "field"),
    [
        ("ambiguity_at_most = 0.35", "ambiguity_at_most = 1.35", "ambiguity_at_most"),
        ("ambiguity_at_most = 0.35", "ambiguity_at_most = nan", "ambiguity_at_most"),
        ("ambiguity_at_most = 0.35", "", "ambiguity_at_most"),
        ("ambiguity_at_most = 0.35", "ambiguity_at_least = 1", "ambiguity_at_least"),
        ("top_n = 500", "top_n = -1", "selection.top_n"),
        ("alert_low_level = 0.005", "alert_low_level = 0.2", "alert_low_level"),
        ('version = "alerts-1"', 'version = ""', "version"),
        ("[selection]", "[selection", "no TOML"),
    ],
)
def test_refuses_a_bad_file_and_names_file_and_field(
    tmp_path: Path, before: str, after: str, field: str
) -> None:
    file = changed(tmp_path, before, after)
    with pytest.raises(PolicyError) as refused:
        load_policy(file)
    assert str(file) in str(refused.value)
    assert field in str(refused.value)


def test_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match=r"gone\.toml: cannot be read"):
        load_policy(tmp_path / "gone.toml")


def test_other_thresholds_have_another_stamp(tmp_path: Path, policy: AlertPolicy) -> None:
    other = load_policy(changed(tmp_path, "trust_at_least = 60.0", "trust_at_least = 61.0"))
    same = load_policy(changed(tmp_path, "# Gate 1", "# Gate one"))
    assert other.version == policy.version
    assert other.stamp != policy.stamp == same.stamp
    assert policy.stamp.startswith("alerts-1+")


def test_every_threshold_says_what_it_is() -> None:
    fields = AlertPolicy.model_fields
    assert [
        name for name, one in fields.items() if name != "selection" and not one.description
    ] == []


def test_refuses_thresholds_that_need_more_of_a_forecast_than_it_has(policy: AlertPolicy) -> None:
    check_steps(policy, 14)
    check_steps(policy, 13)
    longer = policy.model_copy(update={"reference_minutes": 66})
    for asked, steps in ((policy, 12), (longer, 14)):
        with pytest.raises(PolicyError, match=r"reference_minutes.*stream\.forecast_steps"):
            check_steps(asked, steps)
