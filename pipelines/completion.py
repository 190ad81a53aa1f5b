"""Prints what a shell needs to complete commands, flags and their values."""

import sys
from typing import Optional

from fedtiny_tff import suggestions
from fedtiny_tff.errors import InputError
from pipelines.apps import app, commands
from pipelines.shell_completion import command_descriptions, completion_scripts

_SUMMARY = """
Prints a script that completes commands, flags, values and files after Tab.

  eval "$(fedtiny completion bash)"                  # in ~/.bashrc
  eval "$(fedtiny completion zsh)"                   # in ~/.zshrc, after compinit
  mkdir -p ~/.config/fish/completions
  fedtiny completion fish > ~/.config/fish/completions/fedtiny.fish

SHELL is bash, zsh or fish. The script is made of the commands there are and their flags;
make it again after an update.
"""

_ARGUMENT = "SHELL"


def main(shell: str) -> Optional[int]:
  """Prints the script."""
  known = completion_scripts.SCRIPTS
  if shell not in known:
    raise InputError(
      f"{_ARGUMENT} must be one of {', '.join(known)}, got {shell!r}"
      f"{suggestions.question(shell, known)}"
    )
  described = command_descriptions.describe_all()
  sys.stdout.write(known[shell](commands.summaries(), described))
  return None


if __name__ == "__main__":
  app.leave(app.run_app(main, _SUMMARY, {}, arguments=[_ARGUMENT], goes_on=False))
