"""The catalogue: what can be asked for, and what may not be."""

from __future__ import annotations

from pathlib import Path

import pytest

from forecast_service.baselines.registry import BASELINES
from forecast_service.models.catalog import (
    CATALOG,
    Family,
    LicenceTag,
    ModelCard,
    configured,
    known_models,
    of_family,
    read_cards,
    served,
)
from forecast_service.models.digests import PACKAGED, digest_of, locate, verified
from forecast_service.models.errors import CatalogError, WeightsError
from forecast_service.settings import Environment, ForecastSettings
from gateway.settings import SettingsError, load

MOIRAI = "moirai-2.0-small"
RESEARCH = Environment.RESEARCH


def card(**fields: object) -> ModelCard:
    known = known_models()["native"].model_dump() | {"name": "mine", "weights": "mine.bin"}
    return ModelCard(**(known | fields))


def test_every_card_is_complete() -> None:
    for name, known in known_models().items():
        assert known.name == name
        assert known.source
        assert known.licence
        assert known.weights or known.upstream


def test_baselines_can_always_be_asked_for_and_the_native_model_by_default() -> None:
    assert set(CATALOG) == set(BASELINES)
    assert list(served(ForecastSettings())) == [*CATALOG, "native"]
    assert served(ForecastSettings(models=(), default_model="ewma")) == CATALOG


def test_configured_models_follow_the_baselines() -> None:
    cards = served(ForecastSettings(models=("tollama-mock", "native")))
    assert [*cards][-2:] == ["tollama-mock", "native"]
    assert list(of_family(ForecastSettings(models=("native",)), Family.NATIVE)) == ["native"]


def test_an_unknown_model_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(CatalogError, match=r"no model 'natif'; there are native, .*moirai"):
        configured(ForecastSettings(models=("natif",)))


def test_a_research_model_is_refused_in_production() -> None:
    assert known_models()[MOIRAI].licence_tag is LicenceTag.RESEARCH_ONLY
    with pytest.raises(CatalogError, match=r"moirai-2\.0-small is licensed under CC-BY-NC-4\.0"):
        served(ForecastSettings(models=(MOIRAI,)))
    assert MOIRAI in served(ForecastSettings(models=("native", MOIRAI), environment=RESEARCH))


def test_settings_that_name_a_research_model_do_not_load() -> None:
    with pytest.raises(SettingsError, match="for research only"):
        load({"forecast": {"models": (MOIRAI,)}})


def test_the_default_model_must_be_deployed() -> None:
    with pytest.raises(CatalogError, match=r"no model 'native'"):
        served(ForecastSettings(models=()))
    served(ForecastSettings(models=("native",)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "no mapping"),
        ("ewma: {}\n", "names of baselines"),
        ("mine: {family: native}\n", "version"),
        ("mine: 3\n", "mapping"),
    ],
)
def test_a_broken_catalogue_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(text)
    with pytest.raises(CatalogError, match=said):
        read_cards(path)


def test_levels_of_a_card_increase() -> None:
    with pytest.raises(ValueError, match="levels must increase"):
        card(levels=(0.5, 0.1))


def test_packaged_weights_are_those_that_the_catalogue_names() -> None:
    for known in known_models().values():
        path = PACKAGED / known.weights
        if known.weights and known.digest:
            assert digest_of(path) == known.digest


def test_missing_weights_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"mine: its weights mine\.bin are missing"):
        locate(card(), str(tmp_path))


def test_wrong_weights_are_refused_with_both_digests(tmp_path: Path) -> None:
    (tmp_path / "mine.bin").write_bytes(b"x")
    expected, found = "sha256:" + "0" * 64, digest_of(tmp_path / "mine.bin")
    with pytest.raises(WeightsError, match=rf"mine: expected weights {expected}, found {found}"):
        verified(card(digest=expected), str(tmp_path))


def test_weights_that_nobody_vouches_for_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.bin").write_bytes(b"x")
    found = digest_of(tmp_path / "mine.bin")
    with pytest.raises(WeightsError, match=f"found {found}"):
        verified(card(digest=""), str(tmp_path))
    assert verified(card(digest=found), str(tmp_path)) == tmp_path / "mine.bin"


def test_a_folder_s_digest_covers_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    before = digest_of(folder)
    (folder / ".lock").write_bytes(b"left by a tool")
    assert digest_of(folder) == before
    (folder / "a").rename(folder / "b")
    assert digest_of(folder) != before


def test_settings_pin_weights_that_the_catalogue_does_not(tmp_path: Path) -> None:
    digest = "sha256:" + "a" * 64
    settings = ForecastSettings(models=("chronos-2",), weights_digests={"chronos-2": digest})
    assert configured(settings)["chronos-2"].digest == digest
    with pytest.raises(CatalogError, match="needs sha256"):
        configured(settings.model_copy(update={"weights_digests": {"chronos-2": "abc"}}))
