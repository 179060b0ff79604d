"""The Dockerfile and the compose file: read and held to their promises; built where there is a Docker engine."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cohortsync import cli

ROOT = Path(__file__).parent.parent
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions with their arguments, comments left out and lines joined."""
    lines = [line for line in (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
             if not line.startswith("#")]
    found = re.sub(r"\\\n", "", "\n".join(lines)).splitlines()
    return [(line.split()[0], line.split(maxsplit=1)[1].strip()) for line in found if line.strip()]


def last_stage() -> list[tuple[str, str]]:
    found = instructions()
    return found[max(place for place, (word, _) in enumerate(found) if word == "FROM"):]


def commands(shell: str) -> list[list[str]]:
    """The cohortsync commands in a line of shell."""
    return [shlex.split(words) for words in re.findall(r"cohortsync ([^;&]+)", shell)]


def every_command() -> list[list[str]]:
    shells = [json.loads(value)[-1] for word, value in instructions() if word == "CMD"]
    return [words for shell in [*shells, *(one["command"][-1] for one in SERVICES.values() if "command" in one)]
            for words in commands(shell)]


def test_every_instruction_is_one() -> None:
    known = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "VOLUME", "USER", "EXPOSE", "CMD"}
    assert {word for word, _ in instructions()} <= known
    for word, value in instructions():
        if word == "CMD":
            assert all(isinstance(part, str) for part in json.loads(value))


def test_what_is_copied_is_there_and_what_is_secret_is_not_copied() -> None:
    for word, value in instructions():
        if word == "COPY" and not value.startswith("--from"):
            assert (ROOT / value.split()[0]).exists(), value
    assert {".git", ".venv", "cohortsync.env"} <= set((ROOT / ".dockerignore").read_text().split())
    assert not re.search(r"(?i)api_key|secret|password|token", (ROOT / "Dockerfile").read_text())


def test_it_never_runs_as_root_and_writes_to_the_volume_alone() -> None:
    stage = last_stage()
    words = [word for word, _ in stage]
    [user] = [value for word, value in stage if word == "USER"]
    assert user == "10001:10001" and "RUN" not in words[words.index("USER"):]
    environment = dict(pair.split("=", 1) for word, value in stage if word == "ENV" for pair in value.split())
    [volume] = [value for word, value in stage if word == "VOLUME"]
    for name in ("COHORTSYNC_HOME", "XDG_STATE_HOME"):
        assert environment[name].startswith(f"{volume}/")
    for service in SERVICES.values():
        assert (service["read_only"], service["tmpfs"], service["cap_drop"]) == (True, ["/tmp"], ["ALL"])
        assert service["volumes"] == [f"data:{volume}"]
        assert "user" not in service and "privileged" not in service and "network_mode" not in service
    assert "data" in COMPOSE["volumes"]


def test_ports_are_published_on_the_hosts_loopback_alone() -> None:
    ports = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert ports == {"app": ["127.0.0.1:8501:8502"], "scheduler": [], "receiver": ["127.0.0.1:8710:8711"]}


def test_what_is_published_leads_to_where_it_listens() -> None:
    shells = {"app": json.loads(dict(last_stage())["CMD"])[-1], "receiver": SERVICES["receiver"]["command"][-1]}
    for name, shell in shells.items():
        outside, inside = re.findall(r"TCP-LISTEN:(\d+),\S+ TCP:127\.0\.0\.1:(\d+)", shell)[0]
        assert SERVICES[name]["ports"][0].endswith(f":{outside}")
        assert f"--port {inside}" in shell
        assert f"127.0.0.1:{inside}/" in SERVICES[name]["healthcheck"]["test"][-1]


def test_every_command_can_be_typed() -> None:
    group = typer.main.get_command(cli.cli)
    assert len(every_command()) == 3
    for words in every_command():
        context = group.make_context("cohortsync", list(words))
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        command.make_context(name, rest, parent=context)


def test_the_shell_lines_are_shell() -> None:
    for service in SERVICES.values():
        if "command" in service:
            line = service["command"][-1].replace("$$", "$")
            subprocess.run(["sh", "-n", "-c", line], check=True, timeout=10)


def test_the_loop_outlives_a_failing_run_and_ends_when_told(tmp_path: Path) -> None:
    """The scheduler's own line, with a cohortsync that fails and sleeps that are short."""
    for name, script in {"cohortsync": "echo called >> calls; exit 5", "sleep": "exec /bin/sleep 0.05"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    line = SERVICES["scheduler"]["command"][-1].replace("$$", "$")
    with subprocess.Popen(["sh", "-c", line], cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}) as loop:
        while not (tmp_path / "calls").exists() or len((tmp_path / "calls").read_text().splitlines()) < 3:
            assert loop.poll() is None
            time.sleep(0.02)
        loop.terminate()
        assert loop.wait(timeout=30) == 0


def has_engine() -> bool:
    docker = shutil.which("docker")
    return bool(docker) and subprocess.run([docker, "info"], capture_output=True, timeout=60).returncode == 0


@pytest.mark.skipif(not has_engine(), reason="there is no Docker engine here: the image was not built")
def test_the_image_is_built_and_runs() -> None:
    subprocess.run(["docker", "build", "--tag", "cohortsync-test", str(ROOT)], check=True, timeout=1500)
    ran = subprocess.run(["docker", "run", "--rm", "--read-only", "--tmpfs", "/tmp", "cohortsync-test", "sh", "-c",
                          "id -u && cohortsync cohorts --json; cohortsync --version"],
                         capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.splitlines()[0] == "10001"
