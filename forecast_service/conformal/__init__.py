"""Conformal correction: bands moved so that they cover what they promise.

``scores`` says by how much a band missed, ``independent`` which misses may be counted, ``segments``
with whom a market is counted, ``fit`` turns misses into corrections, ``state`` holds them and
applies them, ``coverage`` measures them on what they have not seen, ``adaptive`` follows a target
that moves. Plain NumPy; where the numbers come from and go to is the business of others.
"""
