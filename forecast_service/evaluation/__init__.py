"""How well models forecast, and whether one may take the place of another.

``windows`` cuts histories into contexts and what followed, ``splits`` keeps what is fitted apart
from what is measured, ``bands`` asks the models, ``correction`` refits the conformal correction,
``scoring`` scores bands, ``promotion`` compares two models and decides. Plain NumPy; where prices
come from and where results go is the business of flows.
"""
