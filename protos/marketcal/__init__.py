"""The marketcal contract and client."""
