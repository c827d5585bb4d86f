"""The gRPC door: the contract of proto/gateway.proto, health and reflection."""

import os

# The embedded model's process is started by fork and exec while gRPC's threads run. Its fork handlers are not needed for
# that, and each time they would say on stderr that they were skipped. Read by grpc when it is first imported.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
