"""How many edits a neuron takes, and what they cost with a model, with people, or with both."""
