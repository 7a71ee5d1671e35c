"""A build configuration of the replayed server, as ``--cave SPECIES=FILE`` takes it."""

CAVE_CONFIG = """\
species: fly
source:
  cave:
    roots: {changed_since: "2026-11-23T02:06:58.863"}
    until: "2026-11-23T02:10:28"
    server: SERVER
    graph_table: fib_medulla_ts2
    image: none
    requests: {roots_per_request: 4, attempts: 2, wait_s: 0.001, longest_wait_s: 0.01}
tasks: [merge_action]
"""
