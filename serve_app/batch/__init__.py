"""Files of requests worked through: lines in, each answered exactly once, whatever happens on the way."""
