"""Federated pruning with FedTiny (arXiv 2212.01977) on TensorFlow Federated.

The package is three rings; a module imports only from its own ring or from one
further in:

*   ring 0, TensorFlow and NumPy only: everything not named below, `models/` and `data/`
    included;
*   ring 1, `strategies/`: one file per pruning method, hooks over ring 0;
*   ring 2, `federated/`: the only modules that import TensorFlow Federated.

Nothing here reads a flag or decides where a file goes: that is `pipelines/`.
"""
