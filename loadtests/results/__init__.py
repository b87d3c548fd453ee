"""What load tests measure, and how it is summed up, tabulated and drawn; nothing here knows who measured.

- `record`: Record, what became of one request; `replicas`: how many replicas a service had over time.
- `slo`: Slo, what good service is; `percentiles` and `intervals`: the definitions that all figures go by.
- `counts` and `summary`: what the requests of a test come to, with throughput and goodput.
- `comparison`: measurements of several services; `about`: the machine and the versions they were made on.
- `tables`, `plots`: how figures are shown.

Time to first token, time per output token and latency are properties of Record; each other figure is made of them.
"""
