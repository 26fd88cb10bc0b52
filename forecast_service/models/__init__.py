"""Models: what can be asked for, and the code that runs each family."""
