"""The containers hang together, as far as that can be seen without running them."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from cexdex.config import load
from cexdex.records.record import declarations
from sinks.table import ddl
from tests.house.command import understood
from tests.house.tree import PACKAGES, ROOT, modules

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/cexdex.json").read_text())
PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())
DATASOURCES = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/cexdex.yml").read_text())
STAGES = {"ingest": 9100, "process": 9101, "sink": 9102, "notify": 9103}
ONCE = {"topics", "tables"}
OURS = {name: service for name, service in SERVICES.items() if name in STAGES or name in ONCE}
TARGETS = [(panel, target) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
QUERIES = {panel["title"]: target["rawSql"] for panel, target in TARGETS if "rawSql" in target}


def test_every_file_that_is_mounted_exists() -> None:
    mounts = [v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v.startswith("./")]
    assert "./cexdex.toml" in mounts
    assert [mount for mount in mounts if not (ROOT / mount).exists()] == []


def test_every_named_volume_is_declared_and_used() -> None:
    used = {v.split(":")[0] for s in SERVICES.values() for v in s.get("volumes", []) if v[0] not in "./"}
    assert used == set(COMPOSE["volumes"])


def test_image_tags_are_pinned() -> None:
    images = [s["image"] for s in SERVICES.values()] + re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert [image for image in images if not re.search(r":v?\d+\.\d+\.\d+", image)] == []


def test_kafka_is_the_one_that_runs_on_one_machine_too() -> None:
    jars = tomllib.loads((ROOT / "embedded/jars.toml").read_text())
    assert SERVICES["kafka"]["image"] == f"apache/kafka:{jars['kafka']}"
    assert SERVICES["kafka"]["environment"]["KAFKA_LOG_MESSAGE_TIMESTAMP_TYPE"] == "LogAppendTime"


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_says_whether_it_is_well(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check == {"disable": True} if name in ONCE else check["test"]


@pytest.mark.parametrize("name", SERVICES)
def test_who_is_waited_for_can_be_waited_for(name: str) -> None:
    for other, how in SERVICES[name].get("depends_on", {}).items():
        wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
        assert how == {"condition": wanted}, other


def test_nothing_is_published_beyond_this_machine() -> None:
    ports = [port for s in SERVICES.values() for port in s.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_our_containers_can_write_nowhere_but_their_data() -> None:
    for service in OURS.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
    user = re.findall(r"^USER (\S+)$", DOCKERFILE, re.MULTILINE)
    assert user == ["10001:10001"]
    assert DOCKERFILE.index("USER ") < DOCKERFILE.index("ENTRYPOINT")


def test_the_image_is_made_of_hashed_wheels_and_every_package() -> None:
    assert "--require-hashes --only-binary :all: -r requirements/run.txt" in DOCKERFILE
    assert "HEALTHCHECK" in DOCKERFILE
    kept = (ROOT / ".dockerignore").read_text()
    for source in re.findall(r"^COPY (?!--)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for part in source.split():
            assert (ROOT / part).exists(), part
            assert any(f"!{parent}" in kept.splitlines() for parent in (part, Path(part).parts[0])), part
    for package in PACKAGES:
        assert not (ROOT / package).exists() or f"COPY {package} {package}\n" in DOCKERFILE


def test_no_secret_stands_in_a_file() -> None:
    for secret in COMPOSE["secrets"].values():
        assert f"{secret['environment']}=\n" in (ROOT / "deploy/env.example").read_text()
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    for name, service in SERVICES.items():
        for key, value in service.get("environment", {}).items():
            if "PASSWORD" in key:
                assert re.match(r"/run/secrets/\w+$|\$\{\w+:\?", str(value)), f"{name}: {key}"


def test_every_secret_that_is_read_is_given() -> None:
    for name, service in SERVICES.items():
        read = {
            v[13:] for v in map(str, service.get("environment", {}).values()) if v.startswith("/run/secrets/")
        }
        if name == "grafana":
            read |= set(re.findall(r"/run/secrets/(\w+)", json.dumps(DATASOURCES)))
        assert read == set(service.get("secrets", [])), name


def test_settings_of_the_stages_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in OURS["ingest"]["environment"].items():
        monkeypatch.setenv(key, value)
    config = load(ROOT / "cexdex.toml")
    assert config.kafka.servers == "kafka:9092"
    assert config.clickhouse.url == "http://clickhouse:8123"
    assert config.clickhouse.user == "cexdex"
    assert str(config.clickhouse.password_file) == "/run/secrets/clickhouse_password"


@pytest.mark.parametrize("name", OURS)
def test_every_command_is_a_command(name: str) -> None:
    understood(OURS[name]["command"] + (["--metrics-host", "10.0.0.2"] if name in STAGES else []))


def test_processors_share_their_work_with_those_that_are_scaled_up() -> None:
    assert "--group" in OURS["process"]["command"]


@pytest.mark.parametrize("name", OURS)
def test_a_stage_listens_where_prometheus_finds_it(name: str) -> None:
    entry = OURS[name]["entrypoint"]
    if name in ONCE:
        assert entry == ["cexdex"]
    else:
        assert entry == ["sh", "-c", 'exec cexdex "$$@" --metrics-host "$$(hostname -i)"', "cexdex"]


@pytest.mark.parametrize("stage", STAGES)
def test_prometheus_finds_every_container_of_a_stage(stage: str) -> None:
    [job] = [job for job in PROMETHEUS["scrape_configs"] if job["job_name"] == stage]
    [found] = job["dns_sd_configs"]
    assert (found["names"], found["type"], found["port"]) == ([stage], "A", STAGES[stage])
    assert SERVICES[stage]["expose"] == [str(STAGES[stage])]
    assert f"EXPOSE {' '.join(map(str, STAGES.values()))}" in DOCKERFILE


def test_prometheus_knows_nobody_who_is_not_there() -> None:
    for job in PROMETHEUS["scrape_configs"]:
        for static in job.get("static_configs", []):
            host, _, port = static["targets"][0].partition(":")
            assert host == "127.0.0.1" or port in SERVICES[host]["expose"]
        for found in job.get("dns_sd_configs", []):
            assert set(found["names"]) <= set(SERVICES)


def test_clickhouse_reads_the_newest_row_of_each_id() -> None:
    users = ElementTree.parse(ROOT / "deploy/clickhouse/users.xml").getroot()
    for profile in ("default", "reader"):
        assert users.findtext(f"profiles/{profile}/final") == "1"
    assert users.findtext("profiles/reader/readonly") == "2"
    given = {element.get("from_env") for element in users.iter("password")}
    assert given <= set(SERVICES["clickhouse"]["environment"])
    assert {element.tag for element in users.findall("users/*")} >= {
        OURS["sink"]["environment"]["CEXDEX_CLICKHOUSE__USER"]
    }
    server = ElementTree.parse(ROOT / "deploy/clickhouse/server.xml").getroot()
    assert server.findtext("prometheus/port") in SERVICES["clickhouse"]["expose"]


def test_grafana_asks_servers_that_are_there() -> None:
    found = {source["uid"]: source for source in DATASOURCES["datasources"]}
    assert found["cexdex-clickhouse"]["jsonData"]["host"] in SERVICES
    assert found["cexdex-prometheus"]["url"] == "http://prometheus:9090"
    assert {target["datasource"]["uid"] for _, target in TARGETS} == set(found)
    plugin = SERVICES["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_SYNC"]
    assert plugin.startswith(found["cexdex-clickhouse"]["type"] + "@")
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert any(f"{home}".startswith(mount.split(":")[1]) for mount in SERVICES["grafana"]["volumes"])


def test_panels_do_not_lie_on_each_other() -> None:
    cells = [
        (x, y)
        for panel in DASHBOARD["panels"]
        for place in [panel["gridPos"]]
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_every_metric_on_the_dashboard_is_one_that_a_stage_has() -> None:
    sources = "\n".join(path.read_text() for path in modules().values())
    for panel, target in TARGETS:
        for metric in re.findall(r"\bcexdex_\w+", target.get("expr", "")):
            assert f'"{metric.removesuffix("_total")}"' in sources, f"{panel['title']}: {metric}"


def test_every_query_on_the_dashboard_runs_on_our_tables() -> None:
    """The tables as declared, in a real ClickHouse of this process's own; empty, so that only names and types count."""
    questions = {title: without_macros(sql) for title, sql in QUERIES.items()}
    questions |= {v["name"]: v["query"] for v in DASHBOARD["templating"]["list"]}
    tables = [ddl(declaration, "cexdex", 1) for declaration in declarations().values()]
    done = subprocess.run(
        [sys.executable, "-c", ASK],
        input=json.dumps({"tables": tables, "questions": questions}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {}


ASK = """
import json, sys
import chdb
given = json.load(sys.stdin)
connection = chdb.connect(":memory:")
connection.query("CREATE DATABASE cexdex ENGINE = Atomic")
for table in given["tables"]:
    connection.query(table)
connection.query("USE cexdex")
connection.query("SET final = 1")
wrong = {}
for title, question in given["questions"].items():
    try:
        connection.query(question, "JSON")
    except Exception as error:
        wrong[title] = str(error)[:300]
print(json.dumps(wrong))
"""


def without_macros(sql: str) -> str:
    """As Grafana sends it."""
    sql = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 >= toDateTime(1) AND \1 <= now()", sql)
    sql = re.sub(r"\$__timeInterval\((\w+)\)", r"toStartOfInterval(toDateTime(\1), INTERVAL 5 second)", sql)
    sql = sql.replace("${market:singlequote}", "'BTC-USD','ETH-USD'")
    assert "$" not in sql, sql
    return sql


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_a_container_is_as_well_as_its_stage(status: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    health = _health()

    class Stage(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Stage) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(health, "PORTS", [server.server_port])
        assert health.main() == code
        server.shutdown()
    assert health.main() == 1, "nobody answers any more"


def _health() -> Any:
    spec = importlib.util.spec_from_file_location("health", ROOT / "deploy/health.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
