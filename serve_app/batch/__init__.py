"""Files of requests, each line of which is answered exactly once, whatever happens on the way.

`run` takes one file to its output; `api` is OpenAI's Batch API over HTTP, with what it stores. `command` is `run` at a
terminal. `worker` and `execution` connect the two: they take the batches of the API's store through `run`. `deployment`
puts it all into a replica of Ray Serve.
"""
