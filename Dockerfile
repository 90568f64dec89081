# The browser bundles of socket.io-client, which npm alone delivers.
FROM node:22-slim AS clients
WORKDIR /src
COPY scripts/fetch-clients scripts/
RUN scripts/fetch-clients

FROM python:3.13-slim AS build
# `--build-arg EXTRA=tracing` builds an image with the packages of the setting `tracing`.
ARG EXTRA
WORKDIR /src
RUN python -m venv /opt/recado
COPY requirements.lock requirements-tracing.lock pyproject.toml README.md LICENSE ./
COPY clients/js clients/js
COPY app app
COPY scripts/fetch-clients scripts/build_hook.py scripts/
COPY --from=clients /src/app/static/vendor app/static/vendor
RUN /opt/recado/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r requirements${EXTRA:+-$EXTRA}.lock \
    && /opt/recado/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home recado && install -d -o recado /data /etc/recado
COPY --from=build /opt/recado /opt/recado
ENV PATH=/opt/recado/bin:$PATH PYTHONUNBUFFERED=1 RECADO_DATA_DIR=/data
# config.yml and sites.yml are read from here when they are mounted.
WORKDIR /etc/recado
VOLUME /data
USER recado
EXPOSE 1337
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s CMD ["python", "-c", \
  "import os, ssl, urllib.request as r; e = os.environ.get; \
   r.urlopen(('https' if e('RECADO_TLS_CERT') else 'http') + '://127.0.0.1:' + e('PORT', '1337') + '/healthcheck', \
             timeout=2, context=ssl._create_unverified_context())"]
ENTRYPOINT ["recado"]
CMD ["serve"]
