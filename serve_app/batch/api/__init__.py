"""OpenAI's Batch API over HTTP, and the directory in which it stores files and batches. Sends nothing to engines."""
