"""Which trials to run, where, and what to remember. Never imports torch or transformers itself."""
