"""One file of requests through the engines, from its input to its output. Knows nothing of the Batch API."""
