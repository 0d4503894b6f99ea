"""`trainyard doctor`: the chain from a workspace to a machine, looked at link by link. Nothing is started or changed.

`chain.examine` is what the command line calls. It goes with the rights of whoever runs it, and uses the operator's own
parts for each link (`identity.broker` for tokens, `platforms` for what lies behind them), so that what it finds is what
the operator would meet.

| module | links |
|---|---|
| chain.py | the order, the time that each has, what depends on what |
| spec.py | 1 the workspace and its spec |
| speaker.py | 2 who speaks, 3 the token's claims |
| issuer.py | 4 the issuer and its keys |
| signing_in.py | 5 the exchange or sign-in, 6 the principal, 7 the workspace |
| reaching.py | 8 storage, 9 permissions, 10 compute, 11 quota; trial.py makes the runs that are asked about |
| counting.py | 12 how many federated credentials or policies are used; tools.py runs the clouds' own CLIs |

remedies.py has every command that is printed; cluster.py the requests to the API server.
"""
