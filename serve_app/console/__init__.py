"""The page for people: what a browser needs, and what it shows of the service."""
