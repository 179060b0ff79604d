# cohortsync with the versions of constraints.txt. See docs/container.md.
FROM python:3.11-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
# The app and the receiver listen on loopback alone; socat passes on to them what is published on the host's loopback.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends socat \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /wheels /wheels
COPY constraints.txt /wheels/
RUN pip install --no-cache-dir --constraint /wheels/constraints.txt "$(echo /wheels/*.whl)[auth]" \
 && install --directory --owner 10001 --group 10001 --mode 0700 /data
# Leases and the hour's budget stand beside the workspace, so that all containers share them.
ENV COHORTSYNC_HOME=/data/workspace \
    XDG_STATE_HOME=/data/state \
    HOME=/tmp \
    PYTHONUNBUFFERED=1
VOLUME /data
USER 10001:10001
WORKDIR /data
EXPOSE 8502
CMD ["sh", "-c", "socat TCP-LISTEN:8502,fork,reuseaddr TCP:127.0.0.1:8501 & exec cohortsync app --port 8501"]
