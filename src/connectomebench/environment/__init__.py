"""Look around at the place of a row before answering: an environment for agents, models and people.

``samples`` opens rows with their neighbourhoods, ``camera`` and ``drawing`` make views, ``episode`` holds the rules of
the game, ``gym_environment`` is the same for Gymnasium, ``recording`` keeps episodes and plays them again.
"""
