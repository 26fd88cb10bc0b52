"""What every part needs to be seen: settings, spans and their way to a collector."""
