"""The paths and field names of the API before v1, for one deprecation period."""
