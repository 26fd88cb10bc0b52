"""Training of the native model: data, network, losses, export, evaluation; extra ``[train]``."""
