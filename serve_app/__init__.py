"""An OpenAI-compatible service for LFM2 text and vision models on Ray Serve and vLLM."""
