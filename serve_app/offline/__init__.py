"""`LLM`: the models of a configuration in Python, without a service."""
