"""Alert rules and dashboard ask for figures that exist: an alert on a metric nobody tells is never heard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from settlement_core.http.app import make_quart
from settlement_core.http.metrics import add_metrics
from settlement_core.observers.metrics import Metrics
from settlement_core.observers.webhooks import open_webhooks
from settlement_core.testing.clocks import virtual_backend
from tests.core.worlds import MinimalEngine
from tests.http.asgi import Client
from tests.observers.listening import every_kind, sample, world_with

OPERATIONS = Path(__file__).parents[2] / "examples" / "operations"
RULES = OPERATIONS / "alert-rules.yml"
DASHBOARD = OPERATIONS / "grafana-dashboard.json"

OF_PROMETHEUS = {"up"}
TARGET_LABELS = {"job", "instance"}
"""What Prometheus itself adds."""

Labels = dict[str, set[str]]


class _Engine(MinimalEngine):
    async def status(self) -> Any:
        return {"height": 7}


@pytest.fixture(scope="module")
def told() -> dict[str, Labels]:
    """Return the name of everything a running core tells, with its labels and their values."""
    metrics = Metrics()
    for kind in every_kind():
        metrics.observe(sample(kind))

    async def scrape() -> bytes:
        async with (
            open_webhooks("http://127.0.0.1:1/", "a secret of some length") as webhooks,
            world_with(engine=_Engine()).core() as core,
        ):
            app = make_quart()
            add_metrics(app, core, metrics, webhooks=webhooks)
            return (await Client(app, core).request("GET", "/metrics")).body

    backend, options = virtual_backend("asyncio")
    exposition = anyio.run(scrape, backend=backend, backend_options=options)
    found: dict[str, Labels] = defaultdict(lambda: defaultdict(set))
    for family in text_string_to_metric_families(exposition.decode()):
        for one in family.samples:
            for label, value in one.labels.items():
                found[one.name][label].add(value)
            found[one.name].setdefault("", set())
    return found


def _rules() -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _panels() -> Iterator[tuple[str, str, str]]:
    """Yield title, query and legend of each curve."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            query = target["expr"].replace("$job", "settlement").replace("$__rate_interval", "5m")
            yield panel["title"], query, target["legendFormat"]


def _selectors(query: str) -> list[Any]:
    """Return what a query selects; it must be PromQL."""
    found: list[Any] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        if isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


def _check(query: str, told: dict[str, Labels]) -> None:
    selectors = _selectors(query)
    assert selectors
    # the parser's tree is not to be trusted alone: every name in the text must have been seen
    assert {s.name for s in selectors} >= set(re.findall(r"\bsettlement_core_\w+|\bprocess_\w+", query))
    for selector in selectors:
        assert selector.name in told.keys() | OF_PROMETHEUS, f"nobody tells {selector.name}"
        for matcher in selector.matchers.matchers:
            if matcher.name not in TARGET_LABELS:
                assert matcher.value in told[selector.name][matcher.name], f"{selector.name} never has {matcher.value}"
    known = TARGET_LABELS.union(*(told[s.name] for s in selectors if s.name in told))
    for labels in re.findall(r"\bby \(([^)]*)\)", query):
        assert known.issuperset(labels.split(", ")), f"{query}: nothing has all the labels {labels}"


@pytest.mark.parametrize("rule", _rules(), ids=lambda rule: str(rule["alert"]))
def test_every_alert_asks_for_what_is_told(rule: dict[str, Any], told: dict[str, Labels]) -> None:
    """Names, labels and their values exist; and the alert says how grave it is, and what it is about."""
    _check(rule["expr"], told)
    assert rule["labels"]["severity"] in {"page", "warning"}
    assert rule["annotations"]["summary"]
    grouped = {label for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in labels.split(", ")}
    shown = set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"])))
    assert shown <= grouped or not grouped


@pytest.mark.parametrize(("title", "query", "legend"), list(_panels()), ids=lambda text: str(text)[:40])
def test_every_curve_shows_what_is_told(title: str, query: str, legend: str, told: dict[str, Labels]) -> None:
    """As do the legends' labels."""
    assert title
    _check(query, told)
    labels = set(re.findall(r"{{(\w+)}}", legend))
    assert labels <= set.union(*(set(told[s.name]) for s in _selectors(query))) | TARGET_LABELS


def test_what_waits_for_a_person_pages_one() -> None:
    """Money in doubt, held, without an owner, and halted accounts."""
    paging = {rule["alert"] for rule in _rules() if rule["labels"]["severity"] == "page"}
    assert paging >= {"SettlementInDoubt", "CreditHeld", "MoneyWithoutOwner", "AccountHalted", "MovedMoreThanKnown"}
    assert len(_rules()) == len({rule["alert"] for rule in _rules()})


def test_panels_do_not_lie_on_each_other() -> None:
    """Each has an id and a place of its own, in Grafana's 24 columns."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(places) == len(set(places))
    assert all(x < 24 for x, _ in places)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_the_rules_right() -> None:
    """Prometheus' own judge, where there is one."""
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
