"""Generated code of the contract, version 1."""
