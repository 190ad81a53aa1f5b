"""Turns a masked Keras model into verified `.tflite` files and firmware sources.

Converters and encoders are pure functions over bytes; files are written by
`pipelines/`. May import: TensorFlow, the LiteRT and TFLM runtimes, flatbuffers,
and ring 0 of `fedtiny_tff` (errors, models, the tfmot adapter). Never imports
TensorFlow Federated, `fedtiny_tff.strategies` or `fedtiny_tff.federated`.
"""
