"""Which part of a gateway's limits is one worker's, where the limit is counted in each process. Pure."""

from __future__ import annotations

from model_gateway.config.schema import GatewayConfig


def part_of(config: GatewayConfig, workers: int) -> GatewayConfig:
    """One worker's part of what is promised of the whole gateway; where it cannot be divided, one for each."""

    def part(whole: int) -> int:
        return -(-whole // workers)

    server = config.server
    return config.model_copy(
        update={
            "server": server.model_copy(
                update={"max_connections": part(server.max_connections), "max_in_flight": part(server.max_in_flight)}
            ),
            "budgets": config.budgets.model_copy(update={"instances": config.budgets.instances * workers}),
            "cache": config.cache.model_copy(update={"max_size": part(config.cache.max_size)}),
            "providers": {
                name: options.model_copy(update={"max_concurrent_queries": part(options.max_concurrent_queries)})
                for name, options in config.providers.items()
            },
        }
    )
