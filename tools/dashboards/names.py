"""The metrics that dashboards and rules are made of: one that is renamed is renamed here, and all is written anew."""

from __future__ import annotations

# The ingress, each process for itself: sums are over processes, and what all of them see alike is a maximum.
REQUESTS = "serve_app_requests_total"
IN_FLIGHT = "serve_app_requests_in_flight"
FIRST_BYTE = "serve_app_first_byte_seconds"
DURATION = "serve_app_request_seconds"
WAITED = "serve_app_waited_seconds_total"
SENT_BYTES = "serve_app_sent_bytes_total"
RETRIES = "serve_app_retries_total"
BROKEN = "serve_app_broken_answers_total"
CONTINUED = "serve_app_continued_streams_total"
FROZEN = "serve_app_frozen_replicas_total"
PICKS = "serve_app_affinity_picks_total"
REFUSED = "serve_app_refused_sequences_total"
WAITING = "serve_app_requests_waiting"
EXPECTED_WAIT = "serve_app_expected_wait_seconds"
REPLICAS = "serve_app_replicas"
STARTS = "serve_app_replica_starts_total"
FAILURES = "serve_app_replica_failures_total"
WANTED = "serve_app_replicas_wanted"
READY_IN = "serve_app_replicas_ready_in_seconds"
FAILED_STARTS = "serve_app_failed_starts"
# Of each process and replica, from the process that is scraped.
INGRESS_UP = "serve_app_ingress_up"
REPLICA_UP = "serve_app_replica_up"
# Replicas and the Batch API.
TOKENS = "serve_app_tokens_total"
ADAPTER_REQUESTS = "serve_app_adapter_requests_total"
ADAPTER_OPEN = "serve_app_adapter_requests_open"
ADAPTER_LOADS = "serve_app_adapter_loads_total"
ADAPTER_LOAD_S = "serve_app_adapter_load_seconds_total"
BATCHES = "serve_app_batches"
BATCH_LINES = "serve_app_batch_lines_total"
# vLLM's own, with a `replica` label.
RUNNING = "vllm:num_requests_running"
QUEUED = "vllm:num_requests_waiting"
KV_USAGE = "vllm:kv_cache_usage_perc"
PROMPT_TOKENS = "vllm:prompt_tokens_total"
OUTPUT_TOKENS = "vllm:generation_tokens_total"
PREFIX_QUERIES = "vllm:prefix_cache_queries_total"
PREFIX_HITS = "vllm:prefix_cache_hits_total"
PREEMPTIONS = "vllm:num_preemptions_total"
QUEUE_TIME = "vllm:request_queue_time_seconds"
# Replicas', by OpenTelemetry's names, with the wait for a replica; and the label that has the model in these.
TTFT = "gen_ai_server_time_to_first_token_seconds"
TPOT = "gen_ai_server_time_per_output_token_seconds"
GEN_AI_MODEL = "gen_ai_request_model"
# Ray's own, of its nodes.
NODE_CPU = "ray_node_cpu_utilization"
NODE_MEMORY = "ray_node_mem_used"
NODE_MEMORY_TOTAL = "ray_node_mem_total"
GPU_BUSY = "ray_node_gpus_utilization"
GPU_MEMORY_MIB = "ray_node_gram_used"
GPU_MEMORY_FREE_MIB = "ray_node_gram_available"

ERRORS = 'model!="", status=~"5..|429"'
"""What a client had not deserved: a failure, or no room. Limits of keys refuse before a model is known."""
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
