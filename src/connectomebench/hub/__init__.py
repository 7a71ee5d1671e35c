"""Publishing to the Hugging Face Hub: what would change, what is refused, and one commit for it."""
