"""The gRPC door: the contract of proto/gateway.proto, health and reflection."""

import os

# The embedded model's process is started by fork and exec while gRPC's threads run. gRPC's fork handlers are not needed
# for that, and would say on stderr each time that they were skipped. Read by grpc when it is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
# Otherwise each client that fails at TLS is a line on stderr, in a form of its own among the log's.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# A connection's bytes come to the thread that asks for them instead of through a pool of threads, each of which wakes
# the next: 45 µs of 500 a call (docs/performance.md). An experiment's name, and so one of a version's: a test says when
# it is gone.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
