"""What the scheduling page tells people to install: run where it can be run, verified or parsed where it cannot."""

from __future__ import annotations

import ast
import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PAGE = (Path(__file__).parent.parent / "docs" / "scheduling.md").read_text(encoding="utf-8")
EXECUTABLE = Path(sys.executable).parent / "cohortsync"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A home folder with a checkout in it, as the page supposes."""
    bin_folder = tmp_path / "cohortsync-checkout" / ".venv" / "bin"
    bin_folder.mkdir(parents=True)
    (bin_folder / "cohortsync").symlink_to(EXECUTABLE)
    return tmp_path


def test_the_cron_line_runs(house: Path) -> None:
    (line,) = re.findall(r"^    (\S+ \S+ \S+ \S+ \S+)  (.+)$", PAGE, re.MULTILINE)
    when, command = line
    assert when == "*/10 * * * *"
    assert "%" not in command  # cron would end the command there
    done = subprocess.run(["/bin/sh", "-c", command], env={"HOME": str(house), "PATH": "/usr/bin:/bin"}, timeout=120)
    assert done.returncode == 0
    assert json.loads((house / "cohortsync-due.ndjson").read_text()) == []
    assert (house / "cohortsync").stat().st_mode & 0o777 == 0o700


def test_the_systemd_units_are_sound(house: Path) -> None:
    service, timer = blocks("ini")
    units = {"cohortsync.service": service.replace("%h", str(house)), "cohortsync.timer": timer}
    for name, text in units.items():
        parsed = configparser.ConfigParser(interpolation=None)
        parsed.optionxform = str  # type: ignore[assignment]
        parsed.read_string(text)
        assert parsed.sections()[1] in ("Service", "Timer")
        (house / name).write_text(text)
    if shutil.which("systemd-analyze"):
        done = subprocess.run(["systemd-analyze", "verify", *(str(house / name) for name in units)],
                              capture_output=True, text=True, timeout=60)
        assert [line for line in done.stderr.splitlines() if "cohortsync" in line] == []


def test_what_systemd_starts_runs(house: Path) -> None:
    command = re.findall(r"^ExecStart=(.+)$", blocks("ini")[0], re.MULTILINE)[0].replace("%h", str(house))
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "[]\n")


def test_the_actions_file_calls_due_one_at_a_time() -> None:
    (text,) = blocks("yaml")
    workflow = yaml.safe_load(text)
    (step,) = workflow["jobs"]["due"]["steps"]
    assert step["run"].endswith("cohortsync due --json")
    assert workflow["concurrency"] == "cohortsync"
    assert workflow[True]["schedule"] == [{"cron": "*/10 * * * *"}]


def test_the_airflow_file_calls_due_one_at_a_time() -> None:
    (text,) = blocks("python")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    words = {word.arg: ast.literal_eval(word.value) for call in calls for word in call.keywords
             if isinstance(word.value, ast.Constant)}
    assert words["max_active_runs"] == 1 and words["catchup"] is False
    assert re.search(r'^DUE = ".+/cohortsync due --json"$', text, re.MULTILINE)
    assert "bash_command=DUE" in text
