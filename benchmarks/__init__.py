"""How fast the platform is: figures with units, measured side by side on this machine."""
