"""What this service relies on in Ray beyond its public interface: a module a topic, each with a test that
fails when it moves."""
