"""The client of a federated round as a `.tflite` file."""
