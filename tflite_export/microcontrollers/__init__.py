"""The target `mcu`: a file for TFLM and C++ sources, within a budget."""
