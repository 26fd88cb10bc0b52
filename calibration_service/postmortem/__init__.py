"""What happened in a resolved market: numbers from tables, and what they teach."""
