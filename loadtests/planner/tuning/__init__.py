"""Tuning: from load tests of one replica to a configuration that is proven."""
