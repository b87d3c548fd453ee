"""What is done to a running service, and what its clients see of it.

`clients` hold streams and an open loop on it, `victim` is the service with its processes and nodes by what they are,
`injuries` lists what is done, `findings` says what became of the clients. `loadtests.chaos` is the command.
"""
