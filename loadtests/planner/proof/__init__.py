"""A configuration as it stands, under a traffic: what was refused and how soon, what was lost, when all was well again.

`probes` asks the service's pages meanwhile, `kill` takes an engine away in the middle, `verdict` judges what became of
it all. `loadtests.prove` is the command.
"""
