"""How events get from those who hear them to those who work on them."""
