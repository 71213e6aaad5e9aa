# Tandem on the CPU. glibc (bookworm), because onnxruntime-node's library needs it.
# Build: docker build -t tandem .
# Run: docker run -p 127.0.0.1:3000:3000 -e TRUSTED_NETWORK=true -v tandem-data:/data tandem
# The service wants API_KEYS or that word, since it listens on every interface here: docs/operations.md.

FROM node:20.20.2-bookworm-slim AS build
# g++, make and python3 compile hnswlib-node; they stay in this stage, so the distribution's current ones will do.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install -y --no-install-recommends g++ make python3 \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
RUN npm ci --no-audit --no-fund
COPY tsconfig.json tsconfig.build.json ./
COPY src ./src
# onnxruntime-node carries the libraries of every platform, 220 MB of them for others.
RUN npm run build \
  && npm prune --omit=dev --no-audit --no-fund \
  && rm -rf node_modules/onnxruntime-node/bin/napi-v*/darwin node_modules/onnxruntime-node/bin/napi-v*/win32

FROM node:20.20.2-bookworm-slim
LABEL org.opencontainers.image.title="tandem" \
  org.opencontainers.image.description="Image-text retrieval as a service" \
  org.opencontainers.image.licenses="Apache-2.0"
# Fewer malloc arenas keep sharp's memory from growing.
ENV NODE_ENV=production \
  HOST=0.0.0.0 \
  PORT=3000 \
  TANDEM_DATA_DIR=/data \
  MALLOC_ARENA_MAX=2
WORKDIR /app
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY package.json LICENSE ./
COPY web ./web
COPY models ./models
# The data folder belongs to the user that runs the service; a named volume inherits this.
RUN mkdir /data && chown 1000:1000 /data
USER 1000:1000
VOLUME /data
EXPOSE 3000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
  CMD ["node", "-e", "require(process.env.TLS_CERT_FILE ? 'https' : 'http').get({ host: '127.0.0.1', port: process.env.PORT, path: '/health/ready', rejectUnauthorized: false }, (answer) => process.exit(answer.statusCode === 200 ? 0 : 1)).on('error', () => process.exit(1))"]
CMD ["node", "dist/server.js"]
