"""Pictures in prompts: reading them safely, encoding them, and their places among the tokens."""
