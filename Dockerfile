# The program with everything it needs: to run the main job, to be the Prefect server, or to work for it.
# How to build and use it, and what of this has been tried: docs/docker.md.

FROM python:3.13-slim-bookworm AS build

ENV UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy \
    UV_PYTHON_DOWNLOADS=never

WORKDIR /app
RUN python -m pip install --no-cache-dir uv==0.13.8

# The libraries change less often than the program: this layer is built again only when they do.
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN uv sync --locked --no-default-groups --extra dask --no-install-project

COPY flows flows
COPY taxi_etl taxi_etl
COPY transforms transforms
COPY automations automations
COPY prefect.yaml ./
RUN uv sync --locked --no-default-groups --extra dask


FROM python:3.13-slim-bookworm

RUN useradd --system --uid 10001 --home-dir /data --create-home taxi
COPY --from=build /app /app

ENV PATH=/app/.venv/bin:$PATH \
    PREFECT_HOME=/data/.prefect \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    PYTHONUNBUFFERED=1 \
    TAXI_DATA_DIR=/data

WORKDIR /app
USER 10001
VOLUME /data

# No HEALTHCHECK here: the server, a worker and a single run are healthy in different ways; see compose.yaml.
CMD ["python", "flows/parent.py", "--help"]
