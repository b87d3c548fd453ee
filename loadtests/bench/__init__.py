"""Services side by side: what `loadtests.compare`, `loadtests.offline` and `loadtests.interference` measure.

A suite (`suites`) is a model on a kind of machine, the contenders that serve it (`contenders`, each a file in `peers`)
and the loads that are put on them (`loads`) by vLLM's own client (`vllm_bench`).
"""
