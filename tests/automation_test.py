"""What a host of the repository and a commit run: the checks of `.ci/run`, locked."""

import copy
import importlib.util
import pathlib
import re
import shlex

import pytest
import yaml  # type: ignore[import-untyped]

ROOT = pathlib.Path(__file__).resolve().parents[1]
WORKFLOW = yaml.safe_load(
  (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
)
HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))


def _workflow_problems(workflow):
  """Lists what a workflow lacks, or may do that it needs not."""
  (job,) = workflow["jobs"].values()
  commands = [step["run"].strip() for step in job["steps"] if "run" in step]
  uses = [step["uses"] for step in job["steps"] if "uses" in step]
  caches = [step["with"] for step in job["steps"] if "cache" in step.get("uses", "")]
  wanted = {
    "runs .ci/run last": commands[-1] == ".ci/run",
    "may only read": workflow["permissions"] == {"contents": "read"},
    "grants a job no more": "permissions" not in job,
    "leaves nothing out": job["env"].get("REQUIRE_ALL") == "1",
    "ends by itself": job["timeout-minutes"] == 60,
    "runs once for a branch": "github.ref" in workflow["concurrency"]["group"],
    "has Debian's Python 3.11": job["container"] == "debian:12",
    "uses releases of GitHub's own": all(
      re.fullmatch(r"actions/\w+@v\d+", each) for each in uses
    ),
    "keeps .venv for these locks": all(
      ".venv" in each["path"].split() and "hashFiles('requirements*.txt'" in each["key"]
      for each in caches
    )
    and len(caches) == 1,
    # YAML 1.1 reads the key `on` as true.
    "runs for changes": {"push", "pull_request"} <= set(workflow[True]),
  }
  return [name for name, holds in wanted.items() if not holds]


def test_the_workflow_does_what_ci_run_does():
  assert _workflow_problems(WORKFLOW) == []
  assert (ROOT / ".ci/run").stat().st_mode & 0o111


@pytest.mark.parametrize(
  ("change", "said"),
  [
    (lambda made, job: job["steps"][-1].update(run="make test"), "runs .ci/run last"),
    (lambda made, job: made.update(permissions="write-all"), "may only read"),
    (lambda made, job: job.update(permissions={}), "grants a job no more"),
    (lambda made, job: job["steps"].append({"uses": "a/b@main"}), "uses releases"),
    (lambda made, job: job.update(container="debian:13"), "has Debian's"),
    (lambda made, job: job["env"].pop("REQUIRE_ALL"), "leaves nothing out"),
    (lambda made, job: made[True].pop("pull_request"), "runs for changes"),
  ],
)
def test_a_workflow_that_does_less_or_may_do_more_is_found(change, said):
  made = copy.deepcopy(WORKFLOW)
  change(made, made["jobs"]["everything"])
  (problem,) = _workflow_problems(made)
  assert problem.startswith(said)


def _hook_problem(hook):
  """Returns what is wrong with a hook: it must run what is locked in `.venv/`."""
  words = shlex.split(hook["entry"])
  if hook["language"] != "system" or words[:2] != [".venv/bin/python", "-m"]:
    return "does not run in .venv/"
  if importlib.util.find_spec(words[2]) is None:
    return f"{words[2]} is not there"
  missing = [
    each for each in words[3:] if each.isidentifier() and not (ROOT / each).is_dir()
  ]
  return f"{missing} are not there" if missing and words[2] == "mypy" else ""


def test_hooks_run_locked_tools():
  (repository,) = HOOKS["repos"]
  assert repository["repo"] == "local"
  assert [_hook_problem(hook) for hook in repository["hooks"]] == [""] * 6
  for hook in repository["hooks"]:
    pattern = re.compile(hook.get("files", ""))
    names = ("requirements.txt", "docs/troubleshooting.md", "pipelines/apps/app.py")
    assert any(map(pattern.search, names))


@pytest.mark.parametrize(
  ("change", "said"),
  [
    ({"language": "python"}, "does not run in .venv/"),
    ({"entry": "ruff check"}, "does not run in .venv/"),
    ({"entry": ".venv/bin/python -m tools.nothing"}, "tools.nothing is not there"),
    ({"entry": ".venv/bin/python -m mypy nothing"}, "['nothing'] are not there"),
  ],
)
def test_a_hook_that_runs_something_else_is_found(change, said):
  assert _hook_problem({**HOOKS["repos"][0]["hooks"][0], **change}) == said
