# SPDX-License-Identifier: MIT
#
# The daemon in a container. compose.yaml starts it; README, "In a container", says how and what for.
# Any base will do that has a Python of 3.11 or later with pip: --build-arg PYTHON_IMAGE=…
ARG PYTHON_IMAGE=python:3.12-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# What is left of it: docker image prune --filter label=operatord.image=build
LABEL operatord.image=build
COPY . /source
RUN python3 -m venv --without-pip /usr/local/lib/operatord \
    && python3 -m pip --python /usr/local/lib/operatord/bin/python install --no-cache-dir "/source[cli,ssh,http]"

FROM ${PYTHON_IMAGE}
# The numbers stay the same from image to image: the state in the volume belongs to them.
RUN groupadd --system --gid 7733 operatord \
    && useradd --system --uid 7733 --gid 7733 --home-dir /var/lib/operatord --shell /usr/sbin/nologin operatord \
    && install -d -o operatord -g operatord -m 0700 /var/lib/operatord \
    && install -d -o operatord -g operatord -m 0750 /etc/operatord /run/operatord
COPY --from=build /usr/local/lib/operatord /usr/local/lib/operatord
COPY --chown=operatord:operatord packaging/docker/operatord.yaml packaging/docker/published.yaml /etc/operatord/
COPY packaging/docker/as-operatord /usr/local/bin/operatord
COPY packaging/docker/as-operatord /usr/local/bin/operatorctl
RUN chmod 0755 /usr/local/bin/operatord /usr/local/bin/operatorctl

# The engine is named: it is waited for, and never replaced by local processes.
ENV DOCKER_HOST=unix:///var/run/docker.sock \
    OPERATORD_CONFIG=/etc/operatord/operatord.yaml \
    OPERATORD_ADDRESS=unix:/run/operatord/operatord.sock \
    PYTHONDONTWRITEBYTECODE=1
VOLUME ["/var/lib/operatord", "/etc/operatord"]
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s CMD ["operatorctl", "status"]
# The daemon is process 1, whichever user it is started as: as-operatord replaces itself by it, and it handles
# SIGTERM, SIGINT, SIGQUIT and SIGHUP itself.
STOPSIGNAL SIGTERM
CMD ["operatord", "serve"]
