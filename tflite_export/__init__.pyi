# What type checkers and editors know of the names that __init__.py loads when asked.
from tflite_export.artifacts import BudgetError as BudgetError
from tflite_export.artifacts import VerificationError as VerificationError
from tflite_export.python_api import About as About
from tflite_export.python_api import Exported as Exported
from tflite_export.python_api import export_android as export_android
from tflite_export.python_api import export_mcu as export_mcu

NAMES: dict[str, str]
