"""What others published about real markets, recomputed with this project's scores."""
