"""Review the queue of a proofreading in the browser: people decide, edits are applied, the queue is ranked again."""
