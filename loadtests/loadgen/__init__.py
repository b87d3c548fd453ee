"""The load generator: OpenAI-compatible requests from Locust, in an open or a closed loop.

`locust -f loadtests/locustfile.py` runs it from a shell, `locust_run.run` from Python, in processes of its own.
`options` says what can be asked for. What is sent: `scenarios`, with `prompts`, `images` and `lengths`; when: `traffic`
and `trace`. How: `users` and `load_shape` are Locust's, `session` is one process's part, `client` sends and `sse` reads
the stream. What comes of it: records in a file (`record_parts` where there are several processes), and Locust's
statistics (`locust_stats`, `process_report`, `web`). `harness` connects all of it to Locust's events.
"""
