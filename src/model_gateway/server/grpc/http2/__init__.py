"""HTTP/2 for the gRPC door: one asyncio.Protocol per client connection (RFC 9113), header blocks (RFC 7541), calls."""
