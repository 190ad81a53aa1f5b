"""Common development boards and their memory, for `--board`.

Flash is what programs and data can be stored in, RAM what the processor has on its chip;
1 kB is 1,024 bytes. Both hold the firmware too: a board's figures are the upper end of a
budget, and `--mcu_flash_kb` and `--mcu_ram_kb` say what is left for the model.
"""

import dataclasses
from typing import Any, Optional

from fedtiny_tff import suggestions
from fedtiny_tff.errors import InputError
from tflite_export.mcu_options import McuOptions

_BYTES_PER_KB = 1024


@dataclasses.dataclass(frozen=True)
class Board:
  """A board that firmware is written for.

  Attributes:
    flash_kb: Flash of the processor, or of the board where that has none.
    ram_kb: RAM on the chip, without memory that a board adds.
    source: The vendor's document that states both.
  """

  flash_kb: int
  ram_kb: int
  source: str


BOARDS: dict[str, Board] = {
  "arduino_nano_33_ble_sense": Board(
    1024, 256, "Nordic Semiconductor, nRF52840 Product Specification"
  ),
  "bbc_microbit_v2": Board(
    512, 128, "Nordic Semiconductor, nRF52833 Product Specification"
  ),
  "esp32_devkitc": Board(
    4096, 520, "Espressif, ESP32 Series Datasheet and ESP32-WROOM-32E Datasheet (N4)"
  ),
  "esp32_s3_devkitc_1": Board(
    8192,
    512,
    "Espressif, ESP32-S3 Series Datasheet and ESP32-S3-WROOM-1 Datasheet (N8)",
  ),
  "nrf52840_dk": Board(
    1024, 256, "Nordic Semiconductor, nRF52840 Product Specification"
  ),
  "nrf5340_dk": Board(
    1024, 512, "Nordic Semiconductor, nRF5340 Product Specification, application core"
  ),
  "nucleo_f446re": Board(512, 128, "STMicroelectronics, STM32F446xC/E, DS10693"),
  "nucleo_l432kc": Board(256, 64, "STMicroelectronics, STM32L432KB/KC, DS11451"),
  "nucleo_l4r5zi": Board(2048, 640, "STMicroelectronics, STM32L4R5xx, DS12023"),
  "raspberry_pi_pico": Board(2048, 264, "Raspberry Pi, Pico Datasheet"),
  "raspberry_pi_pico_2": Board(4096, 520, "Raspberry Pi, Pico 2 Datasheet"),
  "sparkfun_edge": Board(1024, 384, "Ambiq, Apollo3 Blue Datasheet"),
  "stm32f746g_disco": Board(
    1024, 320, "STMicroelectronics, STM32F745xx STM32F746xx, DS10916; system SRAM"
  ),
}


def find(name: str) -> Optional[Board]:
  """Returns a board; None for the empty name.

  Raises:
    InputError: A board that is not in the table.
  """
  if not name:
    return None
  if name not in BOARDS:
    raise InputError(
      f"--board must be one of {', '.join(BOARDS)}, got {name!r}"
      f"{suggestions.question(name, BOARDS)}; for another board give --mcu_flash_kb and "
      "--mcu_ram_kb"
    )
  return BOARDS[name]


def mcu_options(config: Any) -> McuOptions:
  """Returns what the flags say about files for microcontrollers.

  Args:
    config: A validated configuration (`config.RunConfig`).
  """
  board = find(config.board)
  flash_kb = config.mcu_flash_kb or (board.flash_kb if board else 0)
  ram_kb = config.mcu_ram_kb or (board.ram_kb if board else 0)
  return McuOptions(
    activation_bits=config.mcu_activation_bits,
    float_ends=config.mcu_float_io,
    keep_names=config.mcu_keep_names,
    flash_bytes=flash_kb * _BYTES_PER_KB or None,
    ram_bytes=ram_kb * _BYTES_PER_KB or None,
  )
