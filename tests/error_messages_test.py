"""What is read from the source about the messages of the product."""

import pathlib

import pytest

from tools import error_messages, troubleshooting

PATH = pathlib.PurePath("pipelines/x.py")


def _found(source, **imported):
  return error_messages.of_source(source, PATH, imported)


def _patterns(source):
  return [each.pattern for each in _found(source)]


@pytest.mark.parametrize(
  ("source", "pattern"),
  [
    ("InputError(f'--rounds={self.rounds}: raise it')", "--rounds=<rounds>: raise it"),
    ("KINDS = ('a', 'b')\nInputError(f\"one of {', '.join(KINDS)}\")", "one of a, b"),
    ("InputError(f\"one of {', '.join(kinds)}\")", "one of <kinds, …>"),
    ("LEAST = 3\nInputError(f'at least {LEAST}')", "at least 3"),
    ("InputError(f'{len(rows)} of {values[\"rate\"]}')", "<number of rows> of <rate>"),
    ("InputError(f'{texts.value(name)} is odd')", "<name> is odd"),
    ("InputError('a  b\\n c')", "a b c"),
    ("InputError('always' + ('; sometimes' if x else ''))", "always"),
    ("UnusableRecord('field', 'is odd')", "is odd"),
    (
      "logging.warning('%s is gone: %s', self.address, why)",
      "<address> is gone: <why>",
    ),
    ("def told(x): return f'{x} is odd'\nInputError(told(1))", "<x> is odd"),
  ],
)
def test_a_message_s_pattern(source, pattern):
  assert _patterns(source) == [pattern]


def test_both_of_two_messages_are_found():
  assert _patterns("InputError('one' if x else 'two')") == ["one", "two"]


def test_constants_of_other_modules_are_known():
  source = "from a.b import MEND\nInputError(f'odd; {MEND}')"
  constant = error_messages._constants(error_messages.ast.parse("MEND = 'raise it'"))
  assert [
    each.pattern for each in _found(source, **{"a.b.MEND": constant["MEND"]})
  ] == ["odd; raise it"]


def test_exit_codes_and_records():
  source = "\n".join([
    "InputError('a')", "VerificationError('b')", "BudgetError('c')",
    "progress.warn('d')", "UnusableImage('e')", "ValueError('f')",
  ])  # fmt: skip
  assert [(each.pattern, each.exit_code, each.is_record) for each in _found(source)] == [
    ("a", 2, False), ("b", 3, False), ("c", 4, False), ("d", None, False), ("e", 2, True),
  ]  # fmt: skip


@pytest.mark.parametrize(
  ("text", "mend"),
  [
    ("--x=1: too large; lower it", "lower it"),
    ("no data: another folder may be named, so name one", "name one"),
    ("width must be in (0, 1], got 2", "must be in (0, 1]"),
    ("--x is missing: name a folder", "name a folder"),
    # An order to nobody, a noun, and what cannot be done.
    ("x: cannot be read: gone", ""),
    ("x: the name is odd", ""),
    ("x: is not to raise", ""),
  ],
)
def test_what_is_a_mend(text, mend):
  (message,) = _found(f"InputError({text!r})")
  assert troubleshooting.mend_of(message) == mend
  told = troubleshooting.without_mend([message])
  assert told == ([] if mend else [f"pipelines.x:1: says no mend: {text}"])


def test_what_needs_no_mend_of_its_own():
  source = "\n".join([
    "UnusableRecord('image', 'is odd')", "InputError(f'{path}: {error}')",
    "InputError(f'--x={x}: {error}')", "VerificationError('zeros are gone')",
  ])  # fmt: skip
  assert not troubleshooting.without_mend(_found(source))


# What no program is told by the Python API: it has no such parameters.
_OF_COMMANDS = (
  "fedtiny_tff.data.", "fedtiny_tff.protection.privacy", "fedtiny_tff.protection.secure_config",
  "fedtiny_tff.masked_models.tfmot_quant", "pipelines.", "tflite_export.conversion.convert_quantised",
  "tflite_export.device_training.", "tflite_export.devices.",
)  # fmt: skip


def test_programs_are_told_no_flags_alone():
  root = pathlib.Path(error_messages.__file__).resolve().parents[1]
  named = {
    each.pattern.split("; ")[-1].split(": ")[-1]
    for each in error_messages.messages(root)
    if not each.module.startswith(_OF_COMMANDS) and "--" in each.pattern
  }
  assert named == {
    "set slots, or --clients_per_round, to so many",
    "let fewer score, by --clients_per_round or fewer datasets",
    "give it some, by --public_samples_per_class or public=",
  }
