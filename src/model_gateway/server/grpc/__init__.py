"""The gRPC door: the contract of proto/gateway.proto, health and reflection."""

import os

# Of grpc nothing runs, and only reflection loads it. Its fork handlers are not needed for that, and would say on stderr
# each time that they were skipped. Read by grpc when it is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
