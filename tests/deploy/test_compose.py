"""Compose and everything else that deploys: loopback, no default password, no open door."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.deploy.conftest import DEPLOY, ROLES

COMPOSE = DEPLOY / "compose" / "compose.yaml"
SERVICES = yaml.safe_load(COMPOSE.read_text())["services"]
#: Scripts and manifests; the pins and the tools of development deploy nothing.
FILES = sorted(
    path
    for folder in ("slurm", "kuberay", "compose")
    for path in (DEPLOY / folder).rglob("*")
    if path.is_file()
)
FILES.append(DEPLOY / "roles.sql")
SCRIPTS = [path for path in FILES if path.read_text().startswith("#!/bin/bash")]


def follows_the_schema(file: Path) -> subprocess.CompletedProcess[str]:
    """Check a file against the schema of Compose that check-jsonschema brings along."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
    return subprocess.run(
        [*command, "vendor.compose-spec", str(file)], capture_output=True, text=True, check=False
    )


def test_compose_follows_its_schema(tmp_path):
    assert follows_the_schema(COMPOSE).returncode == 0, follows_the_schema(COMPOSE).stdout
    broken = tmp_path / "compose.yaml"
    broken.write_text(COMPOSE.read_text().replace("security_opt:", "security_opts:", 1))
    assert "security_opts" in follows_the_schema(broken).stdout


def test_every_mount_is_there():
    for service in SERVICES.values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (COMPOSE.parent / source).exists(), source


def test_the_dashboard_lies_where_grafana_looks():
    mounts = dict(v.split(":")[:2] for v in SERVICES["grafana"]["volumes"])
    providers = yaml.safe_load((COMPOSE.parent / "grafana" / "dashboards.yaml").read_text())
    (provider,) = providers["providers"]
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert Path(home).parent == Path(provider["options"]["path"])
    assert (COMPOSE.parent / "grafana" / "dashboards" / Path(home).name).exists()


def open_doors(services: dict) -> list[str]:
    """Ports that others reach, passwords with a default, a Grafana that asks nobody's name."""
    found = []
    for name, service in services.items():
        found += [f"{name} {p}" for p in service.get("ports", []) if not p.startswith("127.0.0.1:")]
        found += [f"{name} {key}" for key in ("privileged", "network_mode") if key in service]
        for key, value in service["environment"].items():
            secret = "PASSWORD" in key
            if secret and not re.fullmatch(r"\$\{\w+:\?[^}]+\}", value):
                found.append(f"{name} {key}")
    if services["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] != "false":
        found.append("anonymous")
    if "POSTGRES_HOST_AUTH_METHOD" in services["postgres"]["environment"]:
        found.append("trust")
    return found


def test_nobody_but_this_machine_and_nobody_without_a_password_gets_in():
    assert open_doors(SERVICES) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("127.0.0.1:5432:5432", "5432:5432"),
        ("127.0.0.1:3000:3000", "3000:3000"),
        ("${GRAFANA_ADMIN_PASSWORD:?say a password for Grafana's admin}", "admin"),
        ("${CAMPAIGN_OWNER_PASSWORD:?say", "${CAMPAIGN_OWNER_PASSWORD:-say"),
        ("${CAMPAIGN_ADMIN_PASSWORD:?say", "${CAMPAIGN_ADMIN_PASSWORD-say"),
        ('GF_AUTH_ANONYMOUS_ENABLED: "false"', 'GF_AUTH_ANONYMOUS_ENABLED: "true"'),
        ("POSTGRES_DB: campaign", "POSTGRES_HOST_AUTH_METHOD: trust"),
    ],
)
def test_an_open_door_is_seen(old, new):
    text = COMPOSE.read_text()
    assert old in text
    assert open_doors(yaml.safe_load(text.replace(old, new))["services"])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_listens_to_everybody_and_nothing_carries_a_secret(path):
    text = path.read_text()
    assert not re.search(r"0\.0\.0\.0|\[::\]|--dashboard-host[= ](?!127\.0\.0\.1)", text)
    assert not re.search(r"RAY_AUTH_MODE[=: \"']+disabled|mode: disabled", text)
    for line in text.splitlines():
        secret = re.search(r"(?i)(password|token)\s*(?:=|:(?!'))\s*(\S+)", line.partition("#")[0])
        allowed = r"[\"']?\$|\$\{|token|json|true"
        assert secret is None or re.match(allowed, secret[2]), line


def test_what_nobody_could_start_says_so():
    said = [p for p in FILES if p.suffix not in {".json", ".sql"} and p.parent.name != "grafana"]
    assert [path.name for path in said if "ntested" not in path.read_text()] == []


def test_files_that_are_no_scripts_are_data_that_can_be_read():
    for path in FILES:
        if path.suffix == ".yaml":
            assert yaml.safe_load(path.read_text())
        elif path.suffix == ".json":
            assert json.loads(path.read_text())


def shellcheck(path: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "shellcheck"
    command = [str(program), "--shell=bash", "--enable=check-set-e-suppressed", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound(path, tmp_path):
    assert path.stat().st_mode & 0o111
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert shellcheck(path).stdout == ""
    text = path.read_text()
    assert "set -euo pipefail" in text
    broken = tmp_path / path.name
    broken.write_text(text + "\nrm -rf $HOME/$NOWHERE/*\n")
    assert "SC2086" in shellcheck(broken).stdout


@pytest.mark.store
def test_the_passwords_come_from_the_environment(server):
    """The script of the container, with the wheel's own psql."""
    roles = ("campaign", "campaign_worker", "campaign_reader")
    reached = {"PATH": f"{server.programs}:/usr/bin:/bin", "PGHOST": str(server.socket)}
    wanted = {f"CAMPAIGN_{r}_PASSWORD": "it's a $ecret" for r in ("OWNER", "WORKER", "READER")}
    script = ["bash", str(DEPLOY / "compose" / "passwords.sh")]
    server.run(ROLES, "postgres")

    def run(given: dict[str, str]) -> subprocess.CompletedProcess[str]:
        environment = reached | given | {"POSTGRES_DB": "postgres"}
        return subprocess.run(script, env=environment, capture_output=True, text=True, check=False)

    assert run({}).returncode != 0
    done = run(wanted)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with server.login("postgres", "postgres") as connection:
        found = connection.execute(
            "select rolname, rolpassword like 'SCRAM-SHA-256$%%' from pg_authid "
            "where rolname = any(%s)", [list(roles)]
        )  # fmt: skip
        assert set(found) == {(role, True) for role in roles}
