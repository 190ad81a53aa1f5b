"""The bytes of `.tflite` files: the flatbuffer, sparse and packed tensors, files inside it."""
