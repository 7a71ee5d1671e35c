"""The demo: try a proofreading question, explore the samples, compare models. A thin Space and a command start it."""
