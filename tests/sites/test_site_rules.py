"""The table of label rules holds tasks that exist, with the files that build them."""

from __future__ import annotations

from pathlib import Path

from connectomebench.core.tasks import TASKS
from connectomebench.sites.site_rules import SITE_RULES

BUILDERS = Path(__file__).parents[2] / "builders"


def test_every_task_with_a_rule_has_a_builder_of_three_lines() -> None:
    assert set(SITE_RULES) == set(TASKS)
    assert {path.stem for path in BUILDERS.glob("*.py")} == set(SITE_RULES)
    for name in SITE_RULES:
        _, code = (BUILDERS / f"{name}.py").read_text().rsplit('"""', 1)
        lines = [line for line in code.splitlines() if line]
        assert lines == [
            "from connectomebench.cli import run_builder",
            'if __name__ == "__main__":',
            f'    raise SystemExit(run_builder("{name}"))',
        ]
