"""Models behind a tollama server: what is said, how it is sent, and what is made of the reply."""
