# Tandem on the CPU, with glibc (bookworm), which the library of onnxruntime-node needs.
# Build: docker build -t tandem .
# Run: docker run -p 127.0.0.1:3000:3000 -e TRUSTED_NETWORK=true -v tandem-data:/data tandem
# The service listens on every interface here, so it needs API_KEYS or TRUSTED_NETWORK: docs/operations.md.

FROM node:24.21.0-bookworm-slim AS node

FROM node AS build
# g++, make and python3 compile hnswlib-node. They stay in this stage, so their versions need no pin.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ make python3 \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The fast distances of hnswlib need AVX2 and FMA (processors of 2013 and later). For others: --build-arg CXXFLAGS_AMD64=
ARG CXXFLAGS_AMD64="-march=x86-64-v3"
RUN if [ "$(dpkg --print-architecture)" = amd64 ]; then export CXXFLAGS="$CXXFLAGS_AMD64"; fi \
  && npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY scripts/build.mjs scripts/bundle.mjs ./scripts/
COPY src ./src
# Removes 240 MB of libraries for other platforms, types, source maps and compiler output. sbom.cdx.json lists the
# remaining packages (CycloneDX).
RUN npm run build \
  && npm sbom --omit=dev --sbom-format=cyclonedx > sbom.cdx.json \
  && npm prune --omit=dev --no-audit --no-fund \
  && find node_modules/onnxruntime-node/bin -mindepth 3 -maxdepth 3 -not -path "*/linux/$(node -p process.arch)" -exec rm -rf {} + \
  && find node_modules -type f '(' -name '*.map' -o -name '*.d.*ts' -o -path '*/obj.target/*' ')' -delete

# The last stage copies the files of this one, so that removed files are in no layer: package managers, headers, and setuid
# bits.
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
# Fewer malloc arenas limit the memory of sharp.
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
COPY vendor ./vendor
# A named volume inherits the owner of the data folder.
USER 1000:1000
VOLUME /data
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["node", "-e", "require(process.env.TLS_CERT_FILE ? 'https' : 'http').get({ host: '127.0.0.1', port: process.env.PORT, path: '/health/ready', rejectUnauthorized: false }, (answer) => process.exit(answer.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]
CMD ["node", "dist/server.js"]
