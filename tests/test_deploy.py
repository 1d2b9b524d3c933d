"""What is shipped to serve a model: it is sound by its own tools, and says what semid says."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import yaml
from tiny_models import fit_model
from tiny_server import running

from baselines.cli import main
from baselines.serving.config import ServeConfig

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
UNIT = (DEPLOY / "semid.service").read_text(encoding="utf-8")


def tool(name: str) -> str:
    """The path of a program, from the environment of this Python or of the machine."""
    found = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def require_quiet(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def words_after(instruction: str) -> list[str]:
    """The words of the last instruction of a kind in the Dockerfile, written as JSON."""
    found = re.findall(rf"^\s*{instruction} (\[.*\])$", DOCKERFILE, re.MULTILINE)
    words: list[str] = json.loads(found[-1])
    return words


def test_the_dockerfile_is_linted() -> None:
    require_quiet(tool("hadolint"), DEPLOY / "Dockerfile")


def test_the_compose_file_keeps_its_schema() -> None:
    checker = tool("check-jsonschema")
    require_quiet(checker, "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_unit_is_verified(tmp_path: Path) -> None:
    unit = tmp_path / "semid.service"  # systemd wants its program to exist
    unit.write_text(UNIT.replace("/opt/semid/bin/semid", "/bin/true"))
    require_quiet(tool("systemd-analyze"), "verify", unit)


def test_what_the_image_is_made_from_is_sent_to_the_builder() -> None:
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists()
        assert f"!{name}" in sent


def test_the_commands_have_options_that_semid_serve_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (unit,) = re.findall(r"^ExecStart=\S+/semid (.*)$", UNIT, re.MULTILINE)
    for words in (words_after("ENTRYPOINT")[1:] + words_after("CMD"), shlex.split(unit)):
        assert main([*words, "--print_config"]) == 0
        asked = yaml.safe_load(capsys.readouterr().out)
        assert asked["port"] == 8000
        assert asked["models"] in (["/model"], ["/srv/semid/model"])


def test_it_is_stopped_only_after_the_requests_in_flight() -> None:
    patience = ServeConfig(models=("m",)).stop_timeout
    assert int(COMPOSE["services"]["semid"]["stop_grace_period"].rstrip("s")) > patience
    assert int(re.findall(r"TimeoutStopSec=(\d+)", UNIT)[0]) > patience


def test_the_probe_and_prometheus_find_what_is_served(tmp_path: Path) -> None:
    fit_model(tmp_path)
    (probe,) = re.findall(r"HEALTHCHECK .*?CMD (\[.*?\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    code = json.loads(probe)[2]
    content = COMPOSE["configs"]["prometheus"]["content"].replace("${SEMID_TOKEN}", "secret")
    (job,) = yaml.safe_load(content)["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["semid:8000"]}]
    with running(ServeConfig(models=(str(tmp_path / "model"),), port=0), "secret") as served:
        here = code.replace("http://127.0.0.1:8000", served.url)
        assert subprocess.run([sys.executable, "-c", here], timeout=60).returncode == 0
        bearer = {"Authorization": f"Bearer {job['authorization']['credentials']}"}
        found = httpx.get(f"{served.url}/metrics", headers=bearer)
        assert found.status_code == 200
        assert "semid_" in found.text
        assert httpx.get(f"{served.url}/metrics").status_code == 401
    gone = subprocess.run([sys.executable, "-c", here], capture_output=True, timeout=60)
    assert gone.returncode == 1
