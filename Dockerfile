# The worker as an image: docker build -t moderation-worker .
# With --build-arg EXTRAS=redis,sandbox it can run the demo too; BASE takes any image with Python 3.11 or newer.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ARG EXTRAS="redis"
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY worker ./worker
# The wheel first, and only it goes on: what runs is what a release would publish.
RUN python -m venv /opt/build \
 && /opt/build/bin/python -m pip install --constraint constraints.txt pip hatchling \
 && /opt/build/bin/python -m pip wheel --no-deps --no-build-isolation --wheel-dir dist .
# The worker's own environment has no pip; the one beside it fills it, and compiles what it installs.
RUN python -m venv --without-pip /opt/worker \
 && /opt/build/bin/python -m pip --python /opt/worker/bin/python install --constraint constraints.txt \
      "$(ls dist/*.whl)${EXTRAS:+[${EXTRAS}]}"

FROM ${BASE}
ARG REVISION=unknown
LABEL org.opencontainers.image.title="moderation-worker" \
      org.opencontainers.image.description="Reads moderation verdicts from Kafka and makes live streams stop at the CDN." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /opt/worker /opt/worker
# Nothing is written at run time: the root file system may be read-only.
ENV PATH=/opt/worker/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MODERATION_WORKER_CONFIG=/etc/moderation-worker/config.yaml
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 9464
STOPSIGNAL SIGTERM
# No HEALTHCHECK: Kubernetes ignores it, and elsewhere a supervisor asks /healthz on the port it configured.
ENTRYPOINT ["moderation-worker"]
CMD ["run"]
