"""Places where the figures of finished rounds are told, one file a place.

All are told the same, from what a run stores itself; so a place can be told again from
the first round when a run is continued or the place was out of reach for a while.
"""
