"""The error that means "the input is at fault, not the program", and kinds of it."""


class InputError(ValueError):
  """Input that cannot be used.

  The message is one line that says what is wrong, where, and how to mend it.
  Command-line apps print it and end with exit code 2; everything else that
  escapes is a defect of the program.
  """


class QuantisationError(InputError):
  """A model that cannot be trained with quantisation.

  It is about the model alone: the same one may be quantised after training.
  """
