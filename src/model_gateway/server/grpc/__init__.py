"""The gRPC door: the contract of proto/gateway.proto, health and reflection."""
