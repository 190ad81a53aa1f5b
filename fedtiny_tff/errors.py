"""The one error that means "the input is at fault, not the program"."""


class InputError(ValueError):
  """Input that cannot be used.

  The message is one line that says what is wrong, where, and how to mend it.
  Command-line apps print it and end with exit code 2; everything else that
  escapes is a defect of the program.
  """
