"""When, in which order, and what on failure: Prefect flows over the stages of the packages."""
