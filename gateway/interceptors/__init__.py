"""What stands before a handler, one rule per module, in the order of `gateway.pipeline`."""
