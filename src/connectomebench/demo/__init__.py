"""Demo: try a proofreading question, explore samples, compare models. Started by a thin Space or a command."""
