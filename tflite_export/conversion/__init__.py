"""From a Keras model to dense and sparse `.tflite` bytes."""
