"""Tuning: from load tests of one replica to a configuration that is proven.

`serve-app tune` makes a `job.TuningJob` and hands it to `tuner.tune`, whose phases read in this order:

1. measure (`search`): `measure` puts loads on a running service; a constant rate gives a `step.Step`,
   many of them the `knee`; `packing` says how many replicas share a GPU.
2. derive (`derive`, with its `formulas`): the numbers of the model's entry.
3. write (`write`): the numbers into a copy of the configuration.
4. prove (`replay`): `watch` samples the replicas while the traffic is replayed, `oracle` says what the fewest would
   have been, `prove` judges.

`state` keeps all that is measured in a file, `progress` tells the terminal. `loadtests.planner.report` shows a state.
The simulation uses `step`, `knee`, `derive` and `oracle` without any of the rest.
"""
