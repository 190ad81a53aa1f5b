"""Files as TFLM's DECODE operator reads them."""
