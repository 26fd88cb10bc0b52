"""What is written is what is."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_of_settings_is_fresh():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True,
        check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_in_a_third_of_a_second():
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "gateway.cli.main", "--help"], check=True, capture_output=True
        )
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.3


def test_every_decision_is_numbered_dated_and_short():
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(path.name[:4]) for path in records] == list(range(1, len(records) + 1))
    for path in records:
        text = path.read_text()
        assert "Date: 20" in text
        assert len(text.splitlines()) <= 12


def test_folders_of_the_code_map_exist():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    section = text.split("## Code map")[1].split("##")[0]
    folders = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
    assert folders
    assert all((ROOT / folder).is_dir() for folder in folders)


@pytest.mark.ray
def test_the_serve_file_names_applications_and_their_arguments():
    from forecast_service import serving

    serving.prepare_environment()
    from ray.serve.schema import ServeDeploySchema

    from forecast_service.models.catalog import Family

    config = yaml.safe_load((ROOT / "deploy" / "serve.yaml").read_text())
    schema = ServeDeploySchema.model_validate(config)
    assert {application.name for application in schema.applications} == {
        "marketcal-baseline", "marketcal-native"}  # fmt: skip
    for application in schema.applications:
        module, _, name = application.import_path.partition(":")
        assert module == "forecast_service.serving"
        bound = getattr(serving, name)(application.args)  # as Serve calls it
        family = Family(application.args["family"])
        assert application.name == f"marketcal-{family}"
        assert bound._bound_deployment.name == serving.DEPLOYMENTS[family]
