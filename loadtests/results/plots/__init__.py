"""The plots of the load tests: each function takes measurements and returns a matplotlib Figure.

- `comparison.bars`: contenders beside each other, a row for each load.
- `knee.shares`: one replica under rising rates, and the knee.
- `over_time.replays`, `over_time.policies`: a service under a traffic that changes.

`style` holds what they share: colours, axes, and how a figure becomes an SVG element or a PNG file. A new plot is a
function in one of these files, or a new file here. Nothing in this package knows where its figures were measured: what
is above `loadtests.results` hands them over as plain values or as what the protocols here ask for.
"""
