# Tandem on the CPU. glibc (bookworm), because onnxruntime-node's library needs it.
# Build: docker build -t tandem .
# Run: docker run -p 127.0.0.1:3000:3000 -e TRUSTED_NETWORK=true -v tandem-data:/data tandem
# The service wants API_KEYS or that word, since it listens on every interface here: docs/operations.md.

FROM node:20.20.2-bookworm-slim AS node

FROM node AS build
# g++, make and python3 compile hnswlib-node; they stay in this stage, so the distribution's current ones will do.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ make python3 \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# hnswlib has its fast distances only where the compiler may use them. Processors with AVX2 and FMA are of 2013 and later;
# for others: --build-arg CXXFLAGS_AMD64=
ARG CXXFLAGS_AMD64="-march=x86-64-v3"
RUN if [ "$(dpkg --print-architecture)" = amd64 ]; then export CXXFLAGS="$CXXFLAGS_AMD64"; fi \
  && npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
# onnxruntime-node carries the libraries of every platform, 240 MB of them for others. Types, source maps and what a
# compiler leaves are not needed either. sbom.cdx.json lists the packages that stay, in the format of CycloneDX.
RUN npm run build \
  && npm sbom --omit=dev --sbom-format=cyclonedx > sbom.cdx.json \
  && npm prune --omit=dev --no-audit --no-fund \
  && find node_modules/onnxruntime-node/bin -mindepth 3 -maxdepth 3 -not -path "*/linux/$(node -p process.arch)" -exec rm -rf {} + \
  && find node_modules -type f '(' -name '*.map' -o -name '*.d.*ts' -o -path '*/obj.target/*' ')' -delete

# The last stage takes the files of this one as a whole, so that what is removed here is in no layer: package managers of
# Node, headers, and the right of any program to run as another user than its caller.
FROM node AS base
RUN rm -rf /opt/yarn* /usr/local/include /usr/local/lib/node_modules /usr/local/share/doc /usr/local/share/man \
    /usr/local/bin/corepack /usr/local/bin/docker-entrypoint.sh /usr/local/bin/npm /usr/local/bin/npx /usr/local/bin/yarn* \
  && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
  && mkdir /data && chown 1000:1000 /data

FROM scratch
# hadolint ignore=DL3067
COPY --from=base / /
LABEL org.opencontainers.image.title="tandem" \
  org.opencontainers.image.description="Image-text retrieval as a service" \
  org.opencontainers.image.licenses="Apache-2.0"
# Fewer malloc arenas keep sharp's memory from growing.
ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
  NODE_ENV=production \
  HOST=0.0.0.0 \
  PORT=3000 \
  TANDEM_DATA_DIR=/data \
  MALLOC_ARENA_MAX=2 \
  ORT_DISABLE_TELEMETRY=1
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/sbom.cdx.json ./
COPY package.json LICENSE ./
COPY web ./web
COPY models ./models
# The data folder belongs to the user that runs the service; a named volume inherits this.
USER 1000:1000
VOLUME /data
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["node", "-e", "require(process.env.TLS_CERT_FILE ? 'https' : 'http').get({ host: '127.0.0.1', port: process.env.PORT, path: '/health/ready', rejectUnauthorized: false }, (answer) => process.exit(answer.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]
CMD ["node", "dist/server.js"]
