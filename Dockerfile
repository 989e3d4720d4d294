# The relayx gateway, and the relayx command, as an image.
#
#   docker build -t relayx .
#   docker run --network host -v /etc/relay-x:/etc/relay-x:ro relayx
#
# /etc/relay-x holds config.yaml and, for user 10001 alone (mode 0600), secrets.json. On the host's
# network the gateway sees the addresses that clients come from, which data.admission: peer and the
# limits go by; behind a published port it may see the bridge's.

FROM python:3.12-slim AS build
WORKDIR /src
# For the pump of SRT, which is C.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev
RUN python -m venv /opt/relayx
COPY pyproject.toml setup.cfg setup.py README.rst LICENSE ./
COPY relayx relayx
COPY twisted twisted
# Twisted looks for its plugins once, and remembers them here, where nobody may write later.
RUN /opt/relayx/bin/pip install --no-cache-dir '.[srt,zmq]' \
    && /opt/relayx/bin/twistd --help

FROM python:3.12-slim
LABEL org.opencontainers.image.title="relayx" \
      org.opencontainers.image.description="Relay gateway for services and clients behind NAT" \
      org.opencontainers.image.licenses="MIT"
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends libsrt1.5-openssl \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin relayx \
    && install -d /etc/relay-x \
    && install -d -o relayx -g relayx /var/lib/relayx
COPY --from=build /opt/relayx /opt/relayx
ENV PATH=/opt/relayx/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    RELAY_CONFIG=/etc/relay-x/config.yaml
USER 10001
WORKDIR /var/lib/relayx
EXPOSE 5555 8080 30000-30200 30000-30100/udp
# It drains on this: running sessions get data.drain_timeout, so give docker stop more than that.
STOPSIGNAL SIGTERM
# By http.endpoint: another address by RELAYX_ADMIN, the CA of an https one by RELAYX_CA. Not as a
# client, for a gateway that is full, or drains, is healthy, and is not to be killed for it.
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s --retries=3 \
    CMD ["relayx", "top", "--once", "--env-file", "/etc/relay-x/secrets.json"]
CMD ["twistd", "--nodaemon", "--pidfile=", "relayx", "--env-file", "/etc/relay-x/secrets.json"]
