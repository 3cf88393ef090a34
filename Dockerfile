# One image for every stage: docker compose gives each container its command.

FROM python:3.13.9-slim-bookworm AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
COPY requirements/run.txt requirements/run.txt
RUN python -m venv /opt/cexdex \
    && /opt/cexdex/bin/pip install --require-hashes --only-binary :all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY cexdex cexdex
COPY ingest ingest
COPY processors processors
COPY sinks sinks
COPY embedded embedded
COPY simulator simulator
RUN /opt/cexdex/bin/pip wheel --no-index --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/cexdex/bin/pip install --no-index --no-deps dist/*.whl

FROM python:3.13.9-slim-bookworm
LABEL org.opencontainers.image.title="cexdex" org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/cexdex/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 CEXDEX_DATA=/var/lib/cexdex
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/cexdex --shell /usr/sbin/nologin cexdex \
    && chmod 0700 /var/lib/cexdex
COPY --from=build /opt/cexdex /opt/cexdex
COPY deploy/health.py /opt/cexdex/health.py
USER 10001:10001
WORKDIR /var/lib/cexdex
VOLUME /var/lib/cexdex
EXPOSE 9100 9101 9102 9103
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/opt/cexdex/health.py"]
ENTRYPOINT ["cexdex"]
CMD ["--help"]
