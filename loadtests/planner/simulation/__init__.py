"""A service in virtual time: what balancing and autoscaling would make of a traffic, in seconds instead of hours.

The routing pool, the retries and the autoscaling policy are the service's own code, and engines are its simulated ones;
only arrivals, Ray Serve's ordering of replicas and the clock are played here. Who calls whom, from the command down:

- `loadtests.simulate` is the command. `options` reads its arguments into a scenario, with a timing that is given, or
  fitted by `calibrate` to what a tuner measured.
- `capacity` finds what one replica carries (the tuner's own knee search), and tunes a model from that.
- `study` runs policies side by side, or looks for the fewest GPUs; `policy_results` sums each run up.
- `world.simulate` is one run: arrivals at ingresses, and a decision every half a second. It asks a `scalers.Scaler` how
  many replicas there are to be, and a `fleet.Fleet` keeps them: ordered, starting, serving, draining.
- `replica.SimulatedReplica` answers requests as one replica does; `clock` is the event loop whose time jumps.
- `validate` is a command of its own: one scenario for real and simulated, and how far they differ.

To add:
- a scaling policy to compare with: a function in `scalers`, named in its SCALERS (`serve_default` is Ray Serve's own);
- a scaling signal, once `serve_app.replica.protocol.ReplicaSignals` has it: `SimulatedReplica.sample` in `replica`;
- a traffic: a function in `loadtests.loadgen.traffic`, named in its SHAPES; nothing in this package.
"""
