"""Scripts that complete `fedtiny` in bash, zsh and fish, from what its commands say.

Values of lists are completed after every comma; where names are not known, files are
offered for what is a file, and folders for what is a folder.
"""

import re
import shlex
from collections.abc import Callable, Iterator, Mapping

from pipelines.apps.commands import PROGRAM
from pipelines.settings import choices
from pipelines.shell_completion.command_descriptions import (
  CommandDescription,
  FlagDescription,
)

_FOLDERS = re.compile(r"(^|_)dir$")
_FILES = frozenset(
  {"flagfile", "partition_file", "keras_model", "representative_data", "labels", "model",
   "data_dir"}
)  # fmt: skip
# Every command's, and absl's own.
_COMMON = (
  FlagDescription("flagfile", "File with one flag per line.", False, ()),
  FlagDescription("help", "Tells what a command does, and its flags.", True, ()),
)
# Words after a command that are not flags.
_ARGUMENTS = {"completion": ("bash", "zsh", "fish")}

Described = Mapping[str, CommandDescription]


def _flags(described: CommandDescription) -> tuple[FlagDescription, ...]:
  return (*described.flags, *_COMMON)


def _has_no(flag: FlagDescription) -> bool:
  """Whether there is a --noflag."""
  return flag.is_boolean and flag.name != "help"


def _is_folder(flag: FlagDescription) -> bool:
  return bool(_FOLDERS.search(flag.name)) and flag.name not in _FILES


def _words(flag: FlagDescription) -> Iterator[str]:
  """Yields how a flag is typed: with `=` where a value follows."""
  yield f"--{flag.name}" if flag.is_boolean else f"--{flag.name}="
  if _has_no(flag):
    yield f"--no{flag.name}"


def _first_sentence(text: str) -> str:
  """Returns the beginning of a flag's help, without what shells give a meaning."""
  sentence = re.split(r"(?<=[^.])\. |; |: ", text)[0].rstrip(".")
  return re.sub(r"[\[\]:'\"`$\\]", "", " ".join(sentence.split()))


_BASH = """\
# bash completion of @PROGRAM@; made by `@PROGRAM@ completion bash`.
_@PROGRAM@_flags() {
  case "$1" in
@FLAGS@
  esac
}
# What a flag may be set to; @files and @folders are looked up.
_@PROGRAM@_values() {
  case "$1" in
@VALUES@
  esac
}
_@PROGRAM@() {
  local line=${COMP_LINE:0:COMP_POINT} current command='' words flag value head tail
  current=${line##*[[:space:]]}
  read -ra words <<<"${line%"$current"}"
  command=${words[1]:-}
  COMPREPLY=()
  if [[ -z $command ]]; then
    COMPREPLY=($(compgen -W '@COMMANDS@ --help --version' -- "$current"))
    return
  fi
  case "$current" in
    -*=*) flag=${current%%=*}; value=${current#*=} ;;
    -*)
      compopt -o nospace 2>/dev/null
      COMPREPLY=($(compgen -W "$(_@PROGRAM@_flags "$command")" -- "$current"))
      if [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} != *= ]]; then
        compopt +o nospace 2>/dev/null
      fi
      return ;;
    *)
      flag=${words[${#words[@]}-1]}
      [[ ${#words[@]} -gt 2 && $flag == --* && $flag != *=* ]] || flag=$command
      value=$current ;;
  esac
  words=$(_@PROGRAM@_values "$flag")
  case "$words" in
    @folders) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$value")) ;;
    '') ;;
    @files) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$value")) ;;
    *)
      head='' tail=$value
      if [[ $words == ,* ]]; then
        words=${words#,}
        [[ $value == *,* ]] && head=${value%,*}, tail=${value##*,}
      fi
      COMPREPLY=($(compgen -P "$head" -W "$words" -- "$tail"))
      if [[ ${#COMPREPLY[@]} -eq 0 && $flag == --model ]]; then
        compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$value"))
      fi ;;
  esac
  # Where = does not break words, what stands before it belongs to the answer.
  if [[ $current == -*=* && $COMP_WORDBREAKS != *=* ]]; then
    COMPREPLY=("${COMPREPLY[@]/#/$flag=}")
  fi
}
complete -F _@PROGRAM@ @PROGRAM@
"""


def _value_words(flag: FlagDescription) -> str:
  """Returns the values of a flag for bash: a list's after a comma."""
  if flag.values:
    return ("," if flag.name in choices.LISTS else "") + " ".join(flag.values)
  return "@folders" if _is_folder(flag) else "@files" if flag.name in _FILES else ""


def bash(summaries: Mapping[str, str], described: Described) -> str:
  """Returns the script for bash."""
  flags = [
    f"    {name}) echo {shlex.quote(' '.join(w for f in _flags(each) for w in _words(f)))} ;;"
    for name, each in described.items()
  ]
  values = {
    f"--{flag.name}": _value_words(flag)
    for each in described.values()
    for flag in _flags(each)
  } | {
    name: " ".join(_ARGUMENTS.get(name, ("@files",)))
    for name, each in described.items()
    if each.arguments
  }
  rows = [
    f"    {name}) echo {shlex.quote(words)} ;;"
    for name, words in values.items()
    if words
  ]
  return (
    _BASH.replace("@FLAGS@", "\n".join(flags))
    .replace("@VALUES@", "\n".join(rows))
    .replace("@COMMANDS@", " ".join(summaries))
    .replace("@PROGRAM@", PROGRAM)
  )


_ZSH = """\
#compdef @PROGRAM@
# zsh completion of @PROGRAM@; made by `@PROGRAM@ completion zsh`.
_@PROGRAM@() {
  local -a commands
  commands=(
@COMMANDS@
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
@CASES@
  esac
}
if [[ $funcstack[1] == _@PROGRAM@ ]]; then
  _@PROGRAM@ "$@"
else
  compdef _@PROGRAM@ @PROGRAM@
fi
"""


def _zsh_action(flag: FlagDescription) -> str:
  if flag.name in choices.LISTS:
    return f"_values -s , {flag.name} {' '.join(flag.values)}"
  if flag.values:
    return f"({' '.join(flag.values)})"
  return "_files -/" if _is_folder(flag) else "_files" if flag.name in _FILES else " "


def _zsh_arguments(name: str, described: CommandDescription) -> str:
  specs = []
  for flag in _flags(described):
    text = _first_sentence(flag.help)
    if flag.is_boolean:
      specs.append(f"--{flag.name}[{text}]")
    else:
      specs.append(f"--{flag.name}=[{text}]:{flag.name}:{_zsh_action(flag)}")
    if _has_no(flag):
      specs.append(f"--no{flag.name}[Not {text[:1].lower()}{text[1:]}]")
  if name in _ARGUMENTS:
    specs.append(f"1:argument:({' '.join(_ARGUMENTS[name])})")
  elif described.arguments:
    specs.append("1:argument:_files")
  return " \\\n        ".join(shlex.quote(spec) for spec in specs)


def zsh(summaries: Mapping[str, str], described: Described) -> str:
  """Returns the script for zsh."""
  rows = [
    f"    {shlex.quote(name + ':' + _first_sentence(summary))}"
    for name, summary in summaries.items()
  ]
  cases = [
    f"    {name})\n      _arguments \\\n        {_zsh_arguments(name, each)} ;;"
    for name, each in described.items()
  ]
  return (
    _ZSH.replace("@COMMANDS@", "\n".join(rows))
    .replace("@CASES@", "\n".join(cases))
    .replace("@PROGRAM@", PROGRAM)
  )


def _fish_flag(name: str, flag: FlagDescription) -> list[str]:
  condition = f"__fish_seen_subcommand_from {name}"
  head = f"complete -c {PROGRAM} -n {shlex.quote(condition)}"
  text = shlex.quote(_first_sentence(flag.help))
  if flag.is_boolean:
    lines = [f"{head} -l {flag.name} -d {text}"]
    return lines + ([f"{head} -l no{flag.name}"] if _has_no(flag) else [])
  line = f"{head} -l {flag.name} -d {text} -r"
  if flag.name in choices.LISTS:
    line += f" -f -a '(__fish_append , {' '.join(flag.values)})'"
  elif flag.values:
    line += f" -f -a {shlex.quote(' '.join(flag.values))}"
  elif _is_folder(flag):
    line += " -f -a '(__fish_complete_directories)'"
  elif flag.name not in _FILES:
    line += " -f"
  return [line]


def fish(summaries: Mapping[str, str], described: Described) -> str:
  """Returns the script for fish."""
  lines = [f"# fish completion of {PROGRAM}; made by `{PROGRAM} completion fish`."]
  lines.append(f"complete -c {PROGRAM} -f")
  for name, summary in summaries.items():
    text = shlex.quote(_first_sentence(summary))
    lines.append(f"complete -c {PROGRAM} -n __fish_use_subcommand -a {name} -d {text}")
  for name, each in described.items():
    for flag in _flags(each):
      lines += _fish_flag(name, flag)
    head = f"complete -c {PROGRAM} -n '__fish_seen_subcommand_from {name}'"
    if name in _ARGUMENTS:
      lines.append(f"{head} -a {shlex.quote(' '.join(_ARGUMENTS[name]))}")
    elif each.arguments:
      lines.append(f"{head} -F")
  return "\n".join(lines) + "\n"


Script = Callable[[Mapping[str, str], Described], str]

SCRIPTS: dict[str, Script] = {"bash": bash, "zsh": zsh, "fish": fish}
