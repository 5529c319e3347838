# The standalone server. Build: docker build -t fastify-agent-events-server .
FROM node:22-bookworm-slim AS build
WORKDIR /app
# What is installed changes less often than what is built.
COPY package.json package-lock.json ./
COPY server/package.json server/
RUN npm ci --no-audit --no-fund
COPY . .
RUN npm run build && npm prune --omit=dev --no-audit --no-fund

FROM node:22-bookworm-slim
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8000 STORE=lmdb:/data
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
# Pages, styles and pictures are read from here.
COPY --from=build /app/inspector inspector
COPY --from=build /app/server/package.json server/
COPY --from=build /app/server/dist server/dist
# What the demo agent answers from.
COPY README.md ./
COPY docs docs
RUN mkdir /data && chown node:node /data
USER node
VOLUME /data
EXPOSE 8000
# Alive, not ready: a server whose Redis is away must not be killed for it.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
  CMD ["node", "-e", "fetch('http://127.0.0.1:' + process.env.PORT + '/health').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["node", "server/dist/bin.js"]
CMD ["serve"]
