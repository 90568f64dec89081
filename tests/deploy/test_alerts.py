"""The alert rules: promtool takes them and their tests, and each is about metrics and pages that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.test_site import anchors_of
from tests.support.examples import text_of
from tests.support.processes import REPOSITORY
from tests.support.proxies import FOLDER

_FOLDER = FOLDER / "prometheus"
_RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((_FOLDER / "recado.rules.yml").read_text())["groups"] for rule in group["rules"]
]
_METRIC = re.compile(r"\b(?:recado|process)_\w+")


def promtool(*arguments: str, folder: Path = _FOLDER) -> subprocess.CompletedProcess[str]:
    """Run promtool in a folder with the rules."""
    return subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)


def test_promtool_takes_the_rules() -> None:
    """The rules are valid, and their tests pass."""
    for command in (("check", "rules", "recado.rules.yml"), ("test", "rules", "recado.rules.test.yml")):
        done = promtool(*command)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_tests_of_the_rules_test_something(tmp_path: Path) -> None:
    """With another bound in one rule the tests of the rules fail."""
    for path in _FOLDER.iterdir():
        shutil.copy(path, tmp_path)
    rules = tmp_path / "recado.rules.yml"
    changed = rules.read_text().replace("< 0.5 * sum", "< 0.1 * sum")
    assert changed != rules.read_text()
    rules.write_text(changed)
    assert promtool("test", "rules", "recado.rules.test.yml", folder=tmp_path).returncode != 0


@pytest.mark.parametrize("rule", _RULES, ids=lambda rule: rule["alert"])
def test_a_rule_is_about_what_exists(rule: dict[str, Any]) -> None:
    """Each metric of the rule is on the page of metrics; its texts name labels; its page and heading exist."""
    page = text_of("docs/metrics.md")
    names = {name.removesuffix("_bucket") for name in _METRIC.findall(rule["expr"])}
    assert names or rule["expr"].startswith("up{")
    assert {name for name in names if f"| `{name}` |" not in page} == set()
    assert rule["labels"]["severity"] in ("critical", "warning")
    path, _, anchor = rule["annotations"]["page"].partition("#")
    assert (REPOSITORY / path).exists()
    assert not anchor or anchor in anchors_of(REPOSITORY / path)
