# The program `taxi-etl` with everything it needs: to load months, to be the Prefect server, or to work for it.
# How to build and use it, and what of this has been tried: docs/docker.md.

FROM python:3.13-slim-bookworm AS build

ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never

WORKDIR /app
RUN python -m pip install --no-cache-dir uv==0.13.9

# The libraries change less often than the program: this layer is built again only when they do.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-default-groups --extra dask --extra iceberg --no-install-project

COPY flows flows
COPY taxi_etl taxi_etl
COPY transforms transforms
COPY automations automations
COPY prefect.yaml ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-default-groups --extra dask --extra iceberg --no-editable


FROM python:3.13-slim-bookworm

RUN useradd --uid 10001 --no-log-init --home-dir /data --no-create-home taxi && \
    install --directory --owner taxi --group taxi /data
COPY --from=build /app/.venv /app/.venv

ENV PATH=/app/.venv/bin:$PATH \
    PREFECT_HOME=/data/.prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PREFECT_SERVER_UI_STATIC_DIRECTORY=/data/.prefect/ui \
    PYTHONUNBUFFERED=1 \
    TAXI_DATA_DIR=/data

# Where .env and taxi.toml are looked for, and the only place that the program writes to.
WORKDIR /data
USER 10001
VOLUME /data

# No HEALTHCHECK here: the server, a worker and a single run are healthy in different ways; see compose.yaml.
ENTRYPOINT ["taxi-etl"]
CMD ["--help"]
