"""The dashboard against the views of a real store, read by the login Grafana has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime

import psycopg
import pytest
import yaml

from db.store import Store
from tests.deploy.conftest import DEPLOY
from tests.store.filled import fill

pytestmark = pytest.mark.store

GRAFANA = DEPLOY / "compose" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "campaign.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"]}
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}


def sql_of(panel: dict) -> str:
    (target,) = panel["targets"]
    return str(target["rawSql"])


def filled_in(sql: str, **values: str) -> str:
    """What Grafana sends: its time filter and its variables replaced, none of them left."""
    sql = re.sub(r"\$__timeFilter\(([\w.]+)\)", r"\1 between 'epoch' and now()", sql)
    for name, value in values.items():
        sql = sql.replace(f"${{{name}:sqlstring}}", "'" + value.replace("'", "''") + "'")
    assert "$" not in sql, sql
    return sql


@pytest.fixture(scope="module")
def analyst(server, stores) -> Iterator[psycopg.Connection]:
    """The reader of a store with a campaign in it."""
    with stores() as name:
        store = Store(server.url("campaign_worker", name))
        fill(store)
        store.close()
        with server.login("campaign_reader", name) as connection:
            yield connection


@pytest.mark.parametrize("title", PANELS)
def test_a_panel_shows_columns_that_are_there(analyst, title):
    panel = PANELS[title]
    rows = []
    for reality, weights in (("real", "real"), ("simulated", "random"), ("real", "random")):
        found = analyst.execute(
            filled_in(sql_of(panel), campaign="quickstart", reality=reality, weights=weights)
        )
        columns = {column.name: column.type_code for column in found.description}
        rows += found.fetchall()
    assert rows, "the panel is empty on a store that has something for each"
    named = {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"]}
    named |= {panel["options"]["xField"]} if "xField" in panel["options"] else set()
    assert named <= set(columns)
    (target,) = panel["targets"]
    if target["format"] == "time_series":
        assert columns["time"] == psycopg.adapters.types["timestamptz"].oid
        assert all(isinstance(row[0], datetime) for row in rows)


def test_a_column_that_is_not_there_is_seen(analyst):
    sql = sql_of(PANELS["Measurements"]).replace("m.energy_method", "m.energy_methods")
    with pytest.raises(psycopg.errors.UndefinedColumn):
        analyst.execute(filled_in(sql, campaign="x", reality="real", weights="real"))


def test_a_name_with_a_quote_is_only_a_name(analyst):
    for panel in PANELS.values():
        sql = filled_in(sql_of(panel), campaign="o'; drop", reality="real", weights="real")
        analyst.execute(sql)


def test_energy_is_shown_with_its_reality_or_of_real_boards_alone():
    for panel in PANELS.values():
        sql = sql_of(panel)
        if "energy_j" in sql or "joules" in sql:
            assert "reality" in sql or "energy_per_output_token" in sql
        assert "estimated" not in sql


def test_a_variable_is_asked_of_the_store_or_has_its_words(analyst):
    names = analyst.execute(VARIABLES["campaign"]["query"]).fetchall()
    assert {name for (name,) in names} == {"quickstart", "empty"}
    words = {name: VARIABLES[name]["query"] for name in ("reality", "weights")}
    assert words == {"reality": "real,simulated", "weights": "real,random"}
    used = {name for p in PANELS.values() for name in re.findall(r"\$\{(\w+)", sql_of(p))}
    assert used == set(VARIABLES)


def test_every_panel_reads_the_provisioned_store():
    (source,) = yaml.safe_load((GRAFANA / "datasource.yaml").read_text())["datasources"]
    assert source["user"] == "campaign_reader"
    expected = {"type": source["type"], "uid": source["uid"]}
    asking = [*PANELS.values(), *(t for p in PANELS.values() for t in p["targets"])]
    asking += [v for v in VARIABLES.values() if v["type"] == "query"]
    assert [one["datasource"] for one in asking] == [expected] * len(asking)


def test_panels_have_a_place_and_a_number_of_their_own():
    taken: set[tuple[int, int]] = set()
    for panel in PANELS.values():
        grid = panel["gridPos"]
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken
        taken |= cells
    assert len({panel["id"] for panel in PANELS.values()}) == len(DASHBOARD["panels"])
